/* SPDX-License-Identifier: Apache-2.0 */
#include "history/story_words.h"

#include <string.h>

enum { RECIPIENTS_SHOWN = 10 };

static const struct {
    const char *reason, *why, *advice;
} reasons[] = {
    {"relay_denied",
     "This server takes no mail for that address from a sender who is not logged in.",
     "Please check the address; if you have an account here, let your mail program log in."},
    {"recipient_unknown", "There is no such address.", "Please check the address."},
    {"recipient_unverified", "Whether there is such an address could not be found out.",
     "Please check the address, or try again later."},
    {"sender_mismatch", "The account that was used may not send under this sender's address.",
     "Please choose one of the account's own addresses as the sender."},
    {"auth_required", "To send mail here, one has to log in.",
     "Please let your mail program log in, with name and password."},
    {"auth_failed", "The login name or the password is not right.",
     "Please check both in your mail program."},
    {"password_wrong", "The login name or the password is not right.",
     "Please check both in your mail program."},
    {"user_unknown", "The login name or the password is not right.",
     "Please check both in your mail program."},
    {"tls_required", "The connection has to be encrypted.",
     "Please switch encryption (TLS) on in your mail program."},
    {"spf_fail",
     "The sender's domain says that the server which sent this may not send for it (SPF).",
     "Whoever looks after the sender's domain can mend this."},
    {"dkim_fail", "The message's signature (DKIM) is not right.",
     "Whoever looks after the sender's mail system can mend this."},
    {"dmarc_reject",
     "It could not be shown that the message is from the domain it claims, and that domain asks to "
     "refuse such mail (DMARC).",
     "Whoever looks after the sender's domain can mend this."},
    {"dnsbl", "The server which sent this is on a public list of senders of unwanted mail.",
     "Whoever looks after the sending server can ask the list to remove it."},
    {"rate_limit", "There was too much in too short a time.", "Please try again later."},
    {"size", "The message is larger than what is accepted.",
     "Please send large files by another way."},
    {"spam", "The message looks like unwanted mail.",
     "If it is none, please write it differently, or reach the recipient by another way."},
    {"virus", "Something harmful was found in the message.",
     "Please have the sending computer checked."},
    {"attachment", "An attachment is of a kind that is not accepted.",
     "Please send it in another form, or by another way."},
    {"greylist", "Senders who are not known yet are asked to come again after a while.",
     "Mail systems do that by themselves: there is nothing to do."},
    {"protocol", "The sending system did not keep to the rules of mail transfer.",
     "Whoever looks after the sending system can mend this."},
    {"overload", "The server had too much to do, or no space left.", "Please try again later."},
    {"backend_down", "A part of the receiving system did not answer.", "Please try again later."},
    {"loop", "The message went in circles between mail systems.",
     "Somebody's forwarding leads back to where it came from."},
    {"contained", "The account is on hold.", "Please ask your administrator."},
};
static const char other_why[] = "A rule of the receiving side does not allow it.";
static const char other_advice[] =
    "If you think that this is a mistake, please reach the recipient by another way.";

static const char *text_of(json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

static bool is(json_t *object, const char *name, const char *text)
{
    return strcmp(text_of(object, name), text) == 0;
}

static void say(struct buf *out, const char *text)
{
    buf_append(out, str_c(text));
}

/* "2026-11-24T10:21:00.412Z" as "2026-11-24 10:21 UTC". */
static void say_time(struct buf *out, const char *time)
{
    if (strlen(time) < 16)
        return;
    buf_printf(out, "%.10s %.5s UTC", time, time + 11);
}

/* "On …, mail from <…> to <…>" */
static void say_mail(struct buf *out, const char *what, const char *time, const char *from,
                     const char *to)
{
    say(out, "On ");
    say_time(out, time);
    buf_printf(out, ", %s", what);
    if (from)
        buf_printf(out, " from <%s>", from);
    if (to)
        buf_printf(out, " to <%s>", to);
}

/* Quoted as it went over the line, but for the ref, which is said at the end. */
static void say_reply(struct buf *out, const char *before, json_t *said, const char *after)
{
    struct str reply = str_c(text_of(said, "reply"));
    long long code = json_integer_value(json_object_get(said, "code"));
    ptrdiff_t paren = str_find_last(reply, '(');
    if (paren > 0 && str_starts(str_from(reply, (size_t)paren), STR("(ref ")))
        reply = str_trim(str_slice(reply, 0, (size_t)paren));
    if (reply.len == 0)
        return;
    say(out, before);
    if (code)
        buf_printf(out, "%lld ", code);
    if (text_of(said, "enhanced")[0])
        buf_printf(out, "%s ", text_of(said, "enhanced"));
    buf_append(out, reply);
    say(out, after);
}

/* ---- a refusal ---- */

static bool is_for_now(json_t *refusal)
{
    json_int_t code = json_integer_value(json_object_get(refusal, "code"));
    struct str event = str_c(text_of(refusal, "event"));
    return is(refusal, "verdict", "deferred") || (code >= 400 && code < 500) ||
           str_ends(event, STR(".deferred")) || str_equal(event, STR("auth.error"));
}

static void say_why(struct buf *out, json_t *refusal)
{
    const char *why = other_why;
    const char *advice = is_for_now(refusal) ? "Please try again later." : other_advice;
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        if (is(refusal, "reason", reasons[i].reason)) {
            why = reasons[i].why;
            advice = reasons[i].advice;
        }
    }
    if (is(refusal, "event", "session.limit") ||
        (json_integer_value(json_object_get(refusal, "code")) == 421 &&
         is(refusal, "reason", "protocol"))) {
        why = "There were too many connections, or one took too long.";
        advice = "Mail systems try again by themselves: there is nothing to do.";
    }
    buf_printf(out, " %s", why);
    say_reply(out, " The answer was: \"", refusal, "\".");
    buf_printf(out, " %s", advice);
}

/* What was refused, of an outcome. */
static void say_refused(struct buf *out, json_t *story, json_t *outcome)
{
    struct str event = str_c(text_of(outcome, "event"));
    const char *time = text_of(outcome, "time");
    const char *from =
        text_of(outcome, "from")[0] ? text_of(outcome, "from") : text_of(story, "from");
    json_t *recipients = json_object_get(story, "recipients");
    const char *to =
        json_array_size(recipients) == 1 ? text_of(json_array_get(recipients, 0), "to") : NULL;
    bool has_mail = json_object_get(story, "from") || text_of(outcome, "from")[0];
    if (str_starts(event, STR("auth.")))
        say_mail(out, "a login", time, NULL, NULL);
    else if (str_equal(event, STR("session.limit")))
        say_mail(out, "a connection", time, NULL, NULL);
    else if (has_mail)
        say_mail(out, "a message", time, from, to);
    else
        say_mail(out, "an attempt to send mail", time, NULL, NULL);
}

static void explain_refusal(struct buf *out, json_t *story)
{
    json_t *refusal = json_array_get(json_object_get(story, "recipients"), 0);
    json_t *outcomes = json_object_get(story, "outcomes");
    json_t *outcome = json_array_get(outcomes, json_array_size(outcomes) - 1);
    if (outcome) {
        refusal = outcome;
        say_refused(out, story, outcome);
    } else {
        say_mail(out, "mail", text_of(refusal, "time"), text_of(story, "from"),
                 text_of(refusal, "to"));
    }
    say(out, is_for_now(refusal) ? " was not accepted for now" : " was not accepted");
    if (text_of(story, "node")[0])
        buf_printf(out, " by %s", text_of(story, "node"));
    say(out, ".");
    say_why(out, refusal);
    buf_printf(out, " Reference: %s.", text_of(story, "ref"));
}

/* ---- a message ---- */

/* What became of all recipients that nothing was told of since. */
struct fate {
    const char *words; /* NULL: it is on its way */
    bool accepted, told_sender;
    const char *aborted; /* when it ended before it was a message; NULL: it did not */
};

static void follow(struct fate *fate, json_t *outcome)
{
    static const struct {
        const char *event, *words;
    } rows[] = {
        {"message.discarded", "it was not delivered, for a rule of the receiving side"},
        {"delivery.dropped", "it was removed by an administrator"},
        {"quarantine.deleted", "it was removed by an administrator"},
        {"quarantine.expired", "it was put aside, and removed after a while"},
        {"quarantine.released", NULL},
    };
    const char *event = text_of(outcome, "event");
    fate->accepted |= strcmp(event, "message.accepted") == 0;
    fate->told_sender |= strcmp(event, "dsn.sent") == 0;
    if (strcmp(event, "message.aborted") == 0)
        fate->aborted = text_of(outcome, "time");
    if (strcmp(event, "message.held") == 0)
        fate->words = text_of(outcome, "quarantine")[0]
                          ? "it was put aside at the receiving side, to be looked at"
                          : "it waits at the receiving side until somebody has looked at it";
    if (strcmp(event, "delivery.held") == 0 && !is(outcome, "reason", "undeliverable"))
        fate->words = "it is held until an administrator lets it go on";
    if (strcmp(event, "queue.action") == 0 && is(outcome, "verb", "release"))
        fate->words = NULL;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(event, rows[i].event) == 0)
            fate->words = rows[i].words;
    }
}

/* A server that said something has an address; else the words are ours. */
static void say_their_words(struct buf *out, json_t *attempt)
{
    if (text_of(attempt, "ip")[0] && json_integer_value(json_object_get(attempt, "code")))
        say_reply(out, "its mail system answered \"", attempt, "\"");
    else
        say(out, "its mail system could not be reached");
}

static void explain_recipient(struct buf *out, json_t *recipient, const struct fate *fate)
{
    json_t *attempts = json_object_get(recipient, "attempts");
    json_t *last = json_array_get(attempts, json_array_size(attempts) - 1);
    const char *result = text_of(last, "result");
    buf_printf(out, " For <%s>, ", text_of(recipient, "to"));
    if (!is(recipient, "verdict", "accepted") && text_of(recipient, "verdict")[0]) {
        say(out, "it was not accepted");
        say_reply(out, ": \"", recipient, "\"");
    } else if (strcmp(result, "sent") == 0) {
        say(out, "it was handed over to the recipient's mail system on ");
        say_time(out, text_of(last, "time"));
    } else if (strcmp(result, "failed") == 0 && !text_of(last, "ip")[0]) {
        say_reply(out, "it could not be delivered: \"", last, "\"");
    } else if (strcmp(result, "failed") == 0) {
        say(out, "it could not be delivered: ");
        say_their_words(out, last);
    } else if (strcmp(result, "expired") == 0) {
        say(out, "it could not be delivered in time: at last, ");
        say_their_words(out, last);
    } else if (fate->words) {
        say(out, fate->words);
    } else if (strcmp(result, "deferred") == 0) {
        say(out, "it waits: ");
        say_their_words(out, last);
        say(out, "; the next try is on ");
        say_time(out, text_of(last, "next_try"));
        say(out, ", the last one on ");
        say_time(out, text_of(last, "give_up"));
    } else {
        say(out, "it is on its way");
    }
    say(out, ".");
}

static void explain_message(struct buf *out, json_t *story)
{
    struct fate fate = {0};
    size_t i;
    json_t *one;
    json_t *recipients = json_object_get(story, "recipients");
    json_array_foreach(json_object_get(story, "outcomes"), i, one) follow(&fate, one);
    say_mail(out, "a message", text_of(story, "begin"), text_of(story, "from"), NULL);
    if (text_of(story, "subject")[0])
        buf_printf(out, " with the subject \"%s\"", text_of(story, "subject"));
    say(out, fate.accepted  ? " was accepted"
             : fate.aborted ? " was announced, but the sending system went away before it was sent"
                            : " was not accepted");
    if (text_of(story, "node")[0] && !fate.aborted)
        buf_printf(out, " by %s", text_of(story, "node"));
    say(out, ".");
    json_array_foreach(recipients, i, one)
    {
        if (i < RECIPIENTS_SHOWN && (fate.accepted || !is(one, "verdict", "accepted")))
            explain_recipient(out, one, &fate);
    }
    if (json_array_size(recipients) > RECIPIENTS_SHOWN)
        buf_printf(out, " And so on, %zu recipients in all.", json_array_size(recipients));
    if (fate.told_sender)
        say(out, " The sender was told by a notice.");
    buf_printf(out, " Reference: %s.", text_of(story, "id"));
}

/* ---- a session ---- */

static void explain_session(struct buf *out, json_t *story)
{
    bool tls = false;
    size_t i;
    json_t *outcome;
    json_array_foreach(json_object_get(story, "outcomes"), i, outcome)
    {
        tls = tls || is(outcome, "event", "session.tls_failed");
    }
    say_mail(out, "a connection was made", text_of(story, "begin"), NULL, NULL);
    say(out, tls ? ", but encryption could not be agreed upon. Whoever looks after the sending "
                   "system can mend this."
                 : ", and no message was taken.");
    buf_printf(out, " Reference: %s.", text_of(story, "id"));
}

void story_explain(json_t *story, struct buf *out)
{
    if (text_of(story, "ref")[0])
        explain_refusal(out, story);
    else if (text_of(story, "message")[0])
        explain_message(out, story);
    else if (json_object_get(story, "session"))
        explain_session(out, story);
}
