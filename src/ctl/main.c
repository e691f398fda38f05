/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/main.c - the `postern` command: the table of commands, options, dispatch. */
#include "ctl/ctl.h"
#include "ctl/help.h"
#include "ctl/sendmail.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* clang-format off */
const struct ctl_command ctl_commands[] = {
    {"status",  NULL,     ctl_status,        "",                                  "is mail flowing? listeners, queue, totals"},
    {"check",   NULL,     ctl_check,         "[[--config] FILE] [--live]",                   "everything that is wrong with a configuration; --live: ask its backends, too"},
    {"explain", NULL,     ctl_explain,       "ADDRESS [[--config] FILE] [--from A] [--client IP] [--user U] [--tls] [--listener L] [--dns]", "what would become of a message, step by step; none is sent"},
    {"session", NULL,     ctl_session,       "[[--config] FILE] [--client IP] [--tls] [--listener L] [--given TEST]", "an SMTP session typed by you, answered by the configuration; none is kept"},
    {"test",    NULL,     ctl_test,          "[--config FILE] [TEST…]",           "run the flow tests beside a configuration; no mail, no network"},
    {"metrics", NULL,     ctl_metrics,       "",                                  "the numbers for Prometheus, as text"},
    {"init",    NULL,     ctl_init,          "relay-authenticated --domain D --server HOST:PORT [--hostname H] [--output DIR]", "write a first configuration"},
    {"schema",  NULL,     ctl_schema,        "",                                  "JSON Schema of the configuration, for editors"},
    {"block",   "list",   ctl_block_list,    "",                                  "what a step of a flow can be"},
    {"block",   "doc",    ctl_block_doc,     "NAME",                              "a block: its parameters and outcomes"},
    {"apply",   NULL,     ctl_config_apply,  "[[--config] FILE] [--confirm 10m] [--share 10%] [--reason T] [--ignore-tests] [--dry-run]", "check, test and put a configuration into force; the same as config apply"},
    {"rollback",NULL,     ctl_config_rollback,"[N] [--confirm 10m | --write] [--reason T]", "go back to a revision; the same as config rollback"},
    {"shadow",  NULL,     ctl_shadow,        "[[--config] FILE] [--last N | --since 1h]",    "which of the last real decisions would the file (or another) have made differently?"},
    {"config",  "show",   ctl_config_show,   "[N] | --effective [[--config] FILE]",          "the text of a revision; --effective: every setting in force, and where it comes from"},
    {"config",  "history",ctl_config_history,"[--limit N]",                                  "revisions: when, who, why, and what became of them"},
    {"config",  "diff",   ctl_config_diff,   "[A [B]]",                           "what differs between two revisions or files; alone: from what is in force to the file"},
    {"config",  "apply",  ctl_config_apply,  "[[--config] FILE] [--confirm 10m] [--share 10%] [--reason T] [--ignore-tests] [--dry-run]", "check, test and put a configuration into force; --confirm: only for so long unless confirmed; --share: for a part of the clients"},
    {"config",  "confirm",ctl_config_confirm,"[N] [--reason T]",                               "keep the revision that waits for it, for all sessions"},
    {"config",  "rollback",ctl_config_rollback,"[N] [--confirm 10m | --write] [--reason T]", "go back to a revision, at once; --confirm: only for so long unless confirmed; --write: the file too"},
    {"config",  "write",  ctl_config_write,  "",                                  "write what is in force to the file; what stands there is kept beside it"},
    {"queue",   "list",   ctl_queue_list,    "[SELECTORS]",                       "what waits, and why"},
    {"queue",   "show",   ctl_queue_show,    "ID",                                "one message in the queue"},
    {"queue",   "causes", ctl_queue_causes,  "[SELECTORS]",                       "what remote servers say, most frequent first"},
    {"queue",   "cause",  ctl_queue_cause,   "show C",                            "one cause and its oldest mail"},
    {"queue",   "shape",  ctl_queue_shape,   "[--senders] [SELECTORS]",           "destinations (or senders) against age"},
    {"queue",   "retry",  ctl_queue_retry,   "ID|SELECTORS|--all [--dry-run] [--expect N] [--reason T]",   "try now; neither count nor age starts anew"},
    {"queue",   "hold",   ctl_queue_hold,    "ID|SELECTORS|--all [--dry-run] [--expect N] [--reason T]",   "keep until released; the clock stops"},
    {"queue",   "release",ctl_queue_release, "ID|SELECTORS|--all [--dry-run] [--expect N] [--reason T]",   "let held mail go on"},
    {"queue",   "fail",   ctl_queue_fail,    "ID|SELECTORS|--all [--dry-run] [--expect N] [--reason T]",   "give up and tell the sender"},
    {"queue",   "drop",   ctl_queue_drop,    "ID|SELECTORS|--all [--dry-run] [--expect N] [--reason T]",   "give up and tell nobody"},
    {"quarantine","list", ctl_quarantine_list,"[SELECTORS]",                      "mail in quarantine, and why"},
    {"quarantine","show", ctl_quarantine_show,"ID",                               "one message in quarantine, with what was found"},
    {"quarantine","raw",  ctl_quarantine_raw, "ID",                               "the message, decrypted"},
    {"quarantine","release",ctl_quarantine_release,"ID|SELECTORS|--all [--from start] [--dry-run] [--expect N] [--reason T]", "let it go on behind the step that held it, or from the start of its flow; with --to: for these recipients only"},
    {"quarantine","delete",ctl_quarantine_delete,"ID|SELECTORS|--all [--dry-run] [--expect N] [--reason T]", "remove it for good, and tell nobody; with --to: for these recipients only"},
    {"quarantine","status",ctl_quarantine_status,"",                              "the quarantines: limits, and what lies in them"},
    {"quarantine","digest",ctl_quarantine_digest,"[NAME] [--reason T]",                        "send the digests of what is new now"},
    {"quarantine","key",  ctl_quarantine_key, "[--reason T]",                                 "a new key for what comes from now on"},
    {"transport","list",  ctl_transport_list,"",                                  "ways out: what waits, what flows, what stands"},
    {"transport","show",  ctl_transport_show,"NAME [DEST]",                       "a transport and its destinations"},
    {"transport","pause", ctl_transport_pause,"NAME [DEST] [--reason T] [--dry-run]",         "no attempts, and the clock of its mail stands"},
    {"transport","resume",ctl_transport_resume,"NAME [DEST] [--reason T] [--dry-run]",        "take pause and slow back"},
    {"transport","slow",  ctl_transport_slow,"NAME [DEST] --messages 100/1m [--reason T] [--dry-run]", "at most so many messages to each destination"},
    {"transport","test",  ctl_transport_test,"NAME [DEST]",                       "speak to its hosts, without mail"},
    {"contain", NULL,     ctl_contain,       "USER [--reason T] [--dry-run]",                 "a stolen account: hold its mail, refuse its logins, open an incident"},
    {"incident","list",   ctl_incident_list, "[--all] [--limit N]",                           "accounts that are contained; --all: closed incidents, too"},
    {"incident","show",   ctl_incident_show, "N",                                 "an incident, the numbers behind it, and what of its mail waits"},
    {"incident","close",  ctl_incident_close,"N --release|--drop [--reason T] [--dry-run]",   "free the account, and let its held mail go on or drop it"},
    {"message", "raw",    ctl_message_raw,   "ID",                                "a queued message as it would be sent"},
    {"message", "events", ctl_message_events,"ID|REF",                            "the events of a message, a session or a refusal"},
    {"trace",   NULL,     ctl_trace,         "ID|REF [--story] [--raw]",          "the whole story of a message or a refusal; --story: in plain words for its sender, --raw: its events"},
    {"find",    NULL,     ctl_find,          "[EXPRESSION] [--limit N]",          "messages and refusals in the history, newest first"},
    {"tail",    NULL,     ctl_tail,          "[-q EXPRESSION]",                   "events as they happen"},
    {"token",   "create", ctl_token_create,  "NAME [--scope read|operate|admin] [--expires 90d] [--dry-run] [--reason T]", "a token for the API over TCP, shown once"},
    {"token",   "list",   ctl_token_list,    "",                                  "tokens, what they may do and when they were used"},
    {"token",   "revoke", ctl_token_revoke,  "NAME [--dry-run] [--reason T]",                              "make a token worthless at once"},
    {"user",    "add",    ctl_user_add,      "[--file F] LOGIN [--senders A,B] [--dry-run] [--reason T]",    "a new user; the password is read from standard input; without --file the running gateway writes it"},
    {"user",    "passwd", ctl_user_passwd,   "[--file F] LOGIN [--senders A,B] [--dry-run] [--reason T]",    "another password, read from standard input"},
    {"user",    "list",   ctl_user_list,     "[--file F]",                        "logins in a users file; without --file in those of the running gateway"},
    {"user",    "rm",     ctl_user_rm,       "[--file F] LOGIN [--dry-run] [--reason T]",                  "remove a user"},
    {"dkim",    "generate",ctl_dkim_generate, "--domain D [--selector S] [--rsa] [--bits N] FILE", "a new key in FILE, and the record to publish"},
    {"dkim",    "list",   ctl_dkim_list,     "[[--config] FILE]",                   "keys of a configuration"},
    {"dkim",    "publish",ctl_dkim_publish,  "[[--config] FILE] [--domain D] [--selector S]", "the records that must stand in DNS"},
    {"dkim",    "status", ctl_dkim_status,   "[[--config] FILE] [--domain D] [--wait SECONDS]", "does DNS show the keys? --wait: until it shows all"},
    {"dkim",    "rotate", ctl_dkim_rotate,   "[[--config] FILE] --to NEXT [--wait SECONDS]", "let the waiting key NEXT sign in place of the others of its domain and kind, once DNS shows it"},
    {"dkim",    "revoke", ctl_dkim_revoke,   "[[--config] FILE] --key NAME",        "the record that says that a key is no longer valid"},
    {"domain",  "check",  ctl_domain_check,  "[[--config] FILE] [--domain D] [--ip A,B]", "SPF, DKIM, DMARC, MX, PTR and TLS of your domains, with the record to publish"},
    {"domain",  "list",   ctl_domain_list,   "",                                  "your domains, and what the running gateway saw of them in DNS last"},
    {"report",  "dmarc",  ctl_report_dmarc,  "[FILE…]",                           "aggregate reports that others sent: a message, gzip, zip or XML; standard input without a file"},
    {"report",  "list",   ctl_report_list,   "",                                  "aggregate reports that wait to be sent"},
    {"report",  "send",   ctl_report_send,   "[--today] [--dry-run] [--reason T]",                         "send what is due now; --today: what was counted today, too"},
    {"webhook", "list",   ctl_webhook_list,  "",                                  "web services that are told of events, and how it goes"},
    {"webhook", "show",   ctl_webhook_show,  "NAME",                              "one of them, with its last deliveries"},
    {"webhook", "test",   ctl_webhook_test,  "NAME",                              "send it a test now, and show what it answered"},
    {"webhook", "deliveries",ctl_webhook_deliveries,"NAME [--failed | --pending] [--limit N]", "its deliveries, newest first; --failed: those that were given up"},
    {"webhook", "delivery",ctl_webhook_delivery,"ID",                             "one delivery, with what was sent and what was answered"},
    {"webhook", "retry",  ctl_webhook_retry, "ID [--reason T]",                                "try a delivery again now, whatever became of it"},
    {"webhook", "pause",  ctl_webhook_pause, "NAME [--reason T]",                              "no attempts; what comes meanwhile waits"},
    {"webhook", "resume", ctl_webhook_resume,"NAME [--reason T]",                              "go on, also after it answered 410"},
    {"send",    NULL,     ctl_send,          "--to A [--from A] [--file F] [--subject T] [--reason T]", "a real test message, followed to its end"},
    {"spool",   "verify", ctl_spool_verify,  "FOLDER [--verbose]",                "what is in a spool, and is it whole?"},
    {"docs",    NULL,     ctl_docs,          "[--man] settings|blocks|scripts|events|commands|metrics|daemon", "a reference page of the manual, as Markdown or for man"},
    {"completion",NULL,   ctl_completion,    "bash|zsh|fish",                     "a script for the shell that completes these commands"},
    {0},
};
/* clang-format on */

bool ctl_confirm(struct ctl *ctl, const char *question)
{
    char line[16] = "";
    if (ctl->yes || !isatty(STDIN_FILENO))
        return true;
    fprintf(stderr, "%s [y/N] ", question);
    return fgets(line, sizeof line, stdin) && (line[0] == 'y' || line[0] == 'Y');
}

/* ---- arguments ---- */

static void remove_argument(struct ctl *ctl, int at, int count)
{
    memmove(&ctl->argv[at], &ctl->argv[at + count],
            (size_t)(ctl->argc - at - count + 1) * sizeof *ctl->argv);
    ctl->argc -= count;
}

const char *ctl_option(struct ctl *ctl, const char *name)
{
    size_t len = strlen(name);
    for (int i = 0; i < ctl->argc; i++) {
        char *argument = ctl->argv[i];
        if (strncmp(argument, name, len) != 0 || (argument[len] != '\0' && argument[len] != '='))
            continue;
        if (argument[len] == '=') {
            remove_argument(ctl, i, 1);
            return argument + len + 1;
        }
        if (i + 1 >= ctl->argc) {
            fprintf(stderr, "postern: %s needs a value\n", name);
            exit(CTL_USAGE);
        }
        const char *value = ctl->argv[i + 1];
        remove_argument(ctl, i, 2);
        return value;
    }
    return NULL;
}

bool ctl_flag(struct ctl *ctl, const char *name)
{
    for (int i = 0; i < ctl->argc; i++) {
        if (strcmp(ctl->argv[i], name) == 0) {
            remove_argument(ctl, i, 1);
            return true;
        }
    }
    return false;
}

void ctl_arguments(struct ctl *ctl, int least, int most)
{
    for (int i = 0; i < ctl->argc; i++) {
        if (ctl->argv[i][0] == '-' && ctl->argv[i][1] != '\0') {
            help_unknown_option(ctl->command, ctl->argv[i]);
            exit(CTL_USAGE);
        }
    }
    if (ctl->argc < least || ctl->argc > most) {
        const struct ctl_command *command = ctl->command;
        fprintf(stderr, "postern: too %s arguments; usage: postern %s%s%s %s\n",
                ctl->argc < least ? "few" : "many", command->noun, command->verb ? " " : "",
                command->verb ? command->verb : "", command->usage);
        exit(CTL_USAGE);
    }
}

/* ---- dispatch ---- */

static const struct ctl_command *find_command(int argc, char **argv, int *out_words)
{
    for (const struct ctl_command *c = ctl_commands; c->noun; c++) {
        if (argc < 1 || strcmp(argv[0], c->noun) != 0)
            continue;
        *out_words = c->verb ? 2 : 1;
        if (!c->verb || (argc > 1 && strcmp(argv[1], c->verb) == 0))
            return c;
    }
    return NULL;
}

/* `--config FILE` is another way to say FILE, which stands last. */
static void take_config(struct ctl *ctl)
{
    static const char words[] = "[[--config] FILE]";
    if (!strstr(ctl->command->usage, words))
        return;
    const char *path = ctl_option(ctl, "--config");
    if (!path)
        return;
    ctl->argv[ctl->argc++] = (char *)(uintptr_t)path; /* its own place became free */
    ctl->argv[ctl->argc] = NULL;
}

/* What goes with any change. */
static void take_wishes(struct ctl *ctl)
{
    ctl->dry_run = strstr(ctl->command->usage, "[--dry-run]") && ctl_flag(ctl, "--dry-run");
    if (strstr(ctl->command->usage, "[--reason T]"))
        ctl->reason = ctl_option(ctl, "--reason");
}

static int run(struct ctl *ctl)
{
    if (ctl_flag(ctl, "--version")) {
        printf("postern %s\n", POSTERN_VERSION);
        return CTL_YES;
    }
    bool help = ctl_flag(ctl, "--help") || ctl_flag(ctl, "-h");
    if (ctl->argc > 0 && strcmp(ctl->argv[0], "help") == 0) {
        remove_argument(ctl, 0, 1);
        help = true;
    }
    int words = 0;
    const struct ctl_command *command = find_command(ctl->argc, ctl->argv, &words);
    if (command && help) {
        help_command(command, stdout);
        return CTL_YES;
    }
    if (!command)
        return help || ctl->argc == 0 ? help_noun(ctl->argc, ctl->argv, help)
                                      : help_unknown(ctl->argc, ctl->argv);
    remove_argument(ctl, 0, words);
    ctl->command = command;
    take_config(ctl);
    take_wishes(ctl);
    return command->run(ctl);
}

int main(int argc, char **argv)
{
    const char *from_environment = getenv("POSTERN_SOCKET");
    struct ctl ctl = {
        .arena = arena_new(0),
        .socket_path = from_environment ? from_environment : "/run/postern/control.sock",
        .colour = isatty(STDOUT_FILENO) && !getenv("NO_COLOR"),
    };
    const char *slash = strrchr(argv[0], '/');
    int old_code = 0;
    ctl.argc = argc; /* getopt wants the name as well */
    ctl.argv = argv;
    if (sendmail_by_name(&ctl, slash ? slash + 1 : argv[0], &old_code)) {
        arena_free(ctl.arena);
        return old_code;
    }
    ctl.argc = argc - 1;
    ctl.argv = argv + 1;
    const char *socket_path = ctl_option(&ctl, "--socket");
    if (socket_path)
        ctl.socket_path = socket_path;
    ctl.plain = ctl_flag(&ctl, "--plain");
    ctl.json = ctl_flag(&ctl, "--json") || ctl.plain;
    ctl.yes = ctl_flag(&ctl, "--yes");
    if (ctl_flag(&ctl, "--no-color"))
        ctl.colour = false;
    int code = run(&ctl);
    arena_free(ctl.arena);
    return code;
}
