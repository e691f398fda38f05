/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/schemas.c - what requests and answers of the API are made of. tests/system/test_api.py
 * holds every answer against its row.
 */
#include "admin/http.h"

#define PAGE " next:string? total?:integer"

#define STATES "ready:integer waiting:integer inflight:integer held:integer"

/* clang-format off */
const struct admin_schema admin_schemas[] = {
    {"Problem", "What went wrong (RFC 9457).",
     "type:string title:string status:integer detail:string instance?:string errors?:[object] expected?:string current?:string"},
    {"ProblemKind", "The page of a problem: what it means, and what to do.", "problem:string title:string text:string"},
    {"Problems", "All of them.", "items:[ProblemKind]" PAGE},
    {"Description", "An OpenAPI 3.1 document.",
     "openapi:string info:object paths:object components:object security:[object]"},
    {"Status", "Is mail flowing?",
     "health:string version:string hostname:string revision:string config:string started:time workers:integer "
     "sessions:integer sessions_total:integer messages_accepted:integer listeners:[Listener] queue:QueueNumbers "
     "totals:Totals balanced:boolean protected_mailboxes:integer events_dropped:integer log_lost:integer "
     "incidents_open:integer domains_unhealthy:integer certificate_days_left?:integer config_file?:string config_pending?:Pending?"},
    {"Listener", "Where mail comes in.", "name:string addresses:[string] sessions:integer"},
    {"QueueNumbers", "Recipients by state, and what they amount to.",
     "loading:boolean unloaded:integer " STATES " entries:integer bytes:integer oldest_seconds:number"},
    {"Domain", "A listed domain. looked: when, or null; the others are healthy, unhealthy or unknown.",
     "domain:string looked:time? mx:string spf:string dkim:string dmarc:string problems:[DomainProblem]"},
    {"DomainProblem", "record: what to publish, or empty.", "check:string text:string record:string"},
    {"Domains", "All of them; every_seconds: how often they are looked at, 0 is never.",
     "items:[Domain] every_seconds:integer" PAGE},
    {"Totals", "Recipients since the spool was made.",
     "accepted:integer generated:integer delivered:integer failed_dsn:integer failed_silent:integer "
     "quarantined:integer discarded:integer dropped:integer damaged:integer"},
    {"States", "Entries by state.", STATES " content:integer paused:integer"},
    {"Entry", "A message on its way to one destination.",
     "entry:string message:string state:string from:string to:[EntryRecipient] transport:string destination:string "
     "reason:string error:string size:integer attempt:integer accepted:time? last_try:time? next_try:time? "
     "give_up:time?"},
    {"EntryRecipient", "A recipient, and what was last said of it.", "to:string done:boolean reply:string"},
    {"Entries", "Entries of the queue, the oldest first.",
     "items:[Entry] loading?:boolean" PAGE},
    {"QueueSelect", "What to act on; {} is everything.",
     "id?:string to?:string from?:string transport?:string destination?:string cause?:string state?:string "
     "older?:string limit?:string user?:string"},
    {"SelectionWish", "What to keep; {} is everything.", "select:QueueSelect reason?:string"},
    {"Selection", "For actions, until it expires; in memory, so a restart forgets it.",
     "selection:string count:integer expires:time sample:[Entry] loading?:boolean"},
    {"QueueAction", "verb: retry, hold, release, fail or drop. Either select or selection: what was kept. expect: refuse unless so many are selected.",
     "verb:string select?:QueueSelect selection?:string reason?:string dry_run?:boolean expect?:integer"},
    {"QueueActed", "How many were selected, and how many it was done to; skipped: gone meanwhile, or in no state for it; failed: the disk let it not be done.",
     "verb:string dry_run:boolean matched:integer count:integer failed:integer skipped?:integer sample?:[Entry] loading?:boolean"},
    {"Quarantine", "A quarantine. One that is no longer configured has no limits; its mail stays.",
     "quarantine:string configured:boolean count:integer bytes:integer keep_seconds?:integer size?:integer "
     "when_full?:string release_by?:string digest?:string"},
    {"Quarantines", "All quarantines; key: the id of the key for what comes now, or empty.",
     "items:[Quarantine] key:string" PAGE},
    {"QuarantinedMessage", "A message in quarantine. problem: why it cannot be read.",
     "entry:string message:string quarantine:string from:string to:[string] author:string subject:string reason:string "
     "detail:string findings:string flow:string step:string problem:string score:number? size:integer accepted:time? "
     "since:time? digested:boolean"},
    {"Quarantined", "Mail in quarantine, the oldest first.",
     "items:[QuarantinedMessage] loading?:boolean" PAGE},
    {"QuarantineSelect", "What to act on; {} is everything in quarantine.",
     "id?:string to?:string from?:string subject?:string quarantine?:string older?:string limit?:string"},
    {"QuarantineAction", "verb: release or delete. from: \"start\", to release into the whole flow. expect: refuse unless so many are selected.",
     "verb:string select:QuarantineSelect from?:string reason?:string dry_run?:boolean expect?:integer"},
    {"QuarantineActed", "How many were selected, and how many it was done to; unreadable: their key is missing; failed: the disk let it not be done.",
     "verb:string dry_run:boolean matched:integer count:integer unreadable:integer failed:integer sample?:[QuarantinedMessage]"},
    {"DigestWish", "Of which quarantine; absent: of all.", "quarantine?:string reason?:string"},
    {"DigestsSent", "How many were sent.", "sent:integer"},
    {"QuarantineKey", "The id of the new key.", "key:string"},
    {"Cause", "What remote servers said, and how much mail waits for it.",
     "cause:string count:integer recipients:integer size:integer states:States oldest:time? last_try:time? "
     "next_try:time? pattern:string sample:string destinations:[string] items?:[Entry] loading?:boolean"},
    {"Causes", "Causes, the largest first.", "items:[Cause] count:integer loading?:boolean" PAGE},
    {"ShapeRow", "A destination or a sender; ages: entries by age.",
     "destination?:string sender?:string transport?:string count:integer recipients:integer size:integer "
     "states:States oldest:time? last_try:time? next_try:time? ages:[integer]"},
    {"Shape", "The queue as a table; age_minutes: where its columns end.",
     "items:[ShapeRow] count:integer age_minutes:[integer] loading?:boolean" PAGE},
    {"Order", "What an operator ordered.",
     "verb:string destination:string messages:string? since:time? actor:string reason:string"},
    {"Place", "A destination of a transport.",
     "transport:string destination:string paused:boolean slow:string? count:integer size:integer states:States "
     "oldest:time? connections:integer connections_allowed:integer connections_max:integer per_minute:integer "
     "failures:integer probing:boolean next_probe:time? last_failure:time? error:string"},
    {"Transport", "How mail leaves, with its numbers.",
     "transport:string method:string server:string direction:string limits:Limits count:integer states:States connections:integer "
     "per_minute:integer destinations_known:integer backed_off:integer paused:boolean slow:string? orders:[Order] "
     "destinations?:[Place] next?:string?"},
    {"Limits", "Of the configuration, for each destination.", "connections:integer messages:string?"},
    {"Places", "Destinations, by name.", "items:[Place]" PAGE},
    {"Transports", "All of them.", "items:[Transport]" PAGE},
    {"TransportAction", "verb: pause, resume or slow (to messages, like 100/1m). No destination: all of them.",
     "verb:string destination?:string messages?:string reason?:string"},
    {"TransportActed", "How many destinations it was done to.",
     "verb:string transport:string destination:string count:integer dry_run?:boolean"},
    {"TransportTest", "A domain whose hosts to speak to; a transport with a server needs none.", "destination?:string reason?:string"},
    {"TransportTested", "ready: at least one host takes mail.",
     "ready:boolean error:string dns_us:integer items:[Target]"},
    {"Target", "What one address answered.",
     "host:string address:string ready:boolean error:string tls:string cipher:string connect_us:integer "
     "greeting_us:integer tls_us:integer"},
    {"Incident", "An account that is or was contained; limit: that was reached; count, max: in period_seconds; held: "
     "entries of it in the queue.",
     "incident:string user:string state:string opened:time? opened_by:string reason:string flow?:string step?:string limit?:string by?:string "
     "subject?:string count?:integer max?:integer period_seconds?:integer since?:time? messages:integer recipients:integer "
     "unknown_recipients:integer domains:[Tally] clients:[Tally] closed?:time? closed_by?:string closing_reason?:string "
     "queued?:[ShapeRow] queued_entries?:integer"},
    {"Tally", "How often a name came up.", "name:string count:integer"},
    {"Incidents", "The newest first.", "items:[Incident]" PAGE},
    {"IncidentWish", "Whom to contain, and why.", "user:string reason?:string"},
    {"IncidentOpened", "incident: its number; empty in a dry run where there is none. new: false, it was contained already. held: entries in the queue.",
     "incident:string user:string new:boolean held:integer dry_run?:boolean"},
    {"IncidentClosing", "held: release or drop, what becomes of the held mail.", "held:string reason?:string"},
    {"IncidentClosed", "count: entries released or dropped; done: all of them, else the rest follows.",
     "incident:string held:string count:integer done:boolean dry_run?:boolean"},
    {"Report", "What was counted for one domain on one day.", "day:string domain:string rows:integer messages:integer"},
    {"Reports", "Those that wait.", "items:[Report]" PAGE},
    {"ReportWish", "today: also the day that is not over.", "today?:boolean reason?:string"},
    {"ReportsSent", "How many.", "sent:integer dry_run?:boolean"},
    {"Mail", "A message to put in: its text as data, or any bytes as data_base64.",
     "from:string to:[string] data?:string data_base64?:string reason?:string"},
    {"MailTaken", "What a client would have been told.", "accepted:boolean reply:string message:string"},
    {"Question", "Who sends what; from \"\" is the empty sender, and what is missing is not known.",
     "address:string from?:string client?:string user?:string listener?:string tls?:boolean"},
    {"Explanation", "answer: accept, reject or defer, as far as the configuration alone tells; flows have all that can come of them.",
     "answer:string reply:string address:string listener:string user:string tls:boolean trusted:boolean domain?:string "
     "domain_place?:string postmaster?:string authentication?:object recipients?:object content?:object transport?:object "
     "or_transports?:[object] rewritten_by?:[string]"},
    {"Events", "Events in their order; their fields: the reference of events.", "items:[object]"},
    {"Story", "All that happened to a message, a session or a refusal; explanation: in plain words, for its sender.",
     "id:string begin:time end:time rev?:string node?:string message?:string ref?:string session?:object from?:string "
     "size?:integer message_id?:string subject?:string authentication?:object recipients?:[object] content?:object "
     "outcomes?:[object] explanation?:string"},
    {"FoundStory", "A story in short; verdict: what became of it.",
     "id:string time?:time event?:string to:[string] verdict?:string message?:string session?:string from?:string client?:string "
     "user?:string ref?:string reason?:string reply?:string listener?:string message_id?:string subject?:string"},
    {"Understood", "What a word without a key was taken for.", "word:string as:string"},
    {"Found", "Stories, newest first; complete: there are no more. looked_back_to: what is older was not looked through.",
     "items:[FoundStory] complete:boolean understood:[Understood] looked_back_to?:time" PAGE},
    {"User", "senders: addresses that he may use besides his login, as in the file.", "user:string senders:string file:string"},
    {"UsersFile", "writable: the gateway may change it. problem: why it cannot be read, or empty.",
     "file:string writable:boolean problem:string"},
    {"Users", "All of them, and the files they stand in.", "items:[User] files:[UsersFile]" PAGE},
    {"UserWish", "file may be left out where there is one.", "user:string password:string senders?:string file?:string reason?:string"},
    {"PasswordWish", "senders that are left out stay as they are.", "password:string senders?:string file?:string reason?:string"},
    {"UserChanged", "Who it was.", "user:string dry_run?:boolean"},
    {"Webhook", "state: active, failing, paused or disabled (it answered 410). delivered, failed, dropped: since the daemon's start; "
     "next_try: of one that fails. Of its URL only the host is shown.",
     "webhook:string origin:string state:string since:time? by:string error:string next_try:time? last_delivered:time? pending:integer "
     "pending_bytes:integer oldest_seconds:number in_flight:integer secrets:integer delivered:integer failed:integer dropped:integer "
     "attempts_failed:integer"},
    {"Webhooks", "In the order of the configuration.", "items:[Webhook]" PAGE},
    {"WebhookAction", "verb: pause or resume.", "verb:string reason?:string"},
    {"WebhookDelivery", "id: the webhook-id that its receiver got; status: of the last answer, null: there was none; answer: its beginning; "
     "payload: what was sent, where one delivery is asked for.",
     "id:string webhook:string event:string state:string attempts:integer created:time? last_try:time? next_try:time? status:integer? "
     "took_ms:integer error:string answer:string payload?:object"},
    {"WebhookDeliveries", "The newest first; next: the cursor of those behind them, null: there are none.",
     "items:[WebhookDelivery] next:string?"},
    {"Token", "Who may use the API over TCP; last_used: since the daemon's start.",
     "name:string scope:string created:time? expires:time? by:string last_used:time?"},
    {"Tokens", "All of them.", "items:[Token]" PAGE},
    {"TokenWish", "scope: read (default), operate or admin. expires: after 90d, 12h …; without it, never.",
     "name:string scope?:string expires?:string reason?:string"},
    {"TokenMade", "token: to be kept safe, it is not shown again. A dry run makes none.",
     "name:string scope:string expires:time? token?:string dry_run?:boolean"},
    {"TokenRevoked", "It is worthless from now on.", "name:string revoked:boolean dry_run?:boolean"},
    {"Config", "What is in force (the ETag, for If-Match); file_state: how the file on disk stands to it.",
     "revision:string applied:time? file:string file_state:string pending:Pending?"},
    {"Pending", "A revision that waits for its confirmation; share: percent of the clients, 0: all.",
     "revision:string former:string confirm_by:time? share:integer"},
    {"Revision", "A configuration that was put into force; state: what it is now, or what became of it.",
     "revision:string time:time actor:string reason:string state:string files?:[ConfigFile]"},
    {"Revisions", "Those that are kept.", "items:[Revision]" PAGE},
    {"ConfigFile", "A file of a configuration, postern.yaml first.", "name:string text:string"},
    {"Decisions", "Stories with the events of their decisions.", "items:[Decision]" PAGE},
    {"Decision", "One message or refused session.", "id:string events:[object]"},
    {"ConfigApplication", "What to put into force: for all, or for a share of the clients; taken back unless confirmed in time.",
     "files:[ConfigFile] reason?:string confirm_seconds?:integer share?:integer"},
    {"ConfigConfirmation", "Which revision is meant; without it, the one that waits.", "revision?:string reason?:string"},
    {"ConfigRollback", "Where to go back to; without it, to the one before.",
     "revision?:string reason?:string confirm_seconds?:integer"},
    {"ConfigDone", "What is in force now; after_restart: sections that count only then; warning: it could not be written down.",
     "revision:string? former:string? unchanged:boolean pending:Pending? after_restart:[string] problems:[object] "
     "file_state:string warning:string dry_run?:boolean"},
    {0},
};
/* clang-format on */
