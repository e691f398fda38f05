/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/docs.c - `postern docs PAGE`: the pages of the manual that come from the tables of the code.
 *
 * tools/make_manual writes them to docs/manual/, tools/check_docs says when they are stale; the
 * build writes them for man.
 */
#include "admin/log_journal.h"
#include "admin/metrics.h"
#include "base/buf.h"
#include "config/option.h"
#include "ctl/list.h"
#include "ctl/man.h"
#include "ctl/selection.h"
#include "event/event.h"
#include "flow/flow.h"
#include "gateway/settings.h"
#include "mail/reply.h"

#include <stdio.h>
#include <string.h>

enum { PAGE_MAX = 4 * 1024 * 1024 };

static void print_settings(struct buf *out)
{
    buf_append(out, STR("# Reference: settings\n\n"
                        "Every key of the configuration, a part for each map. `NAME.*` is an entry "
                        "of the section `NAME`, under a name that you choose. How the file works: "
                        "[Configuration](02-configuration.md).\n\n"));
    settings_manual(out);
}

static void print_blocks(struct buf *out)
{
    buf_append(out, STR("# Reference: blocks\n\n"
                        "What a step of a flow can be, with its parameters, its outcomes and what "
                        "each leads to. Every step also takes `when`, `id` and `observe`: "
                        "[Flows](03-flows.md).\n\n"));
    flow_describe_blocks(out);
}

static void print_scripts(struct buf *out)
{
    buf_append(out,
               STR("# Reference: scripts\n\n"
                   "What Lua scripts can see, ask and change: their argument `mail` and the "
                   "global `postern`. Where they are called, what they may return and how they "
                   "are bounded: [Scripts](17-scripts.md).\n\n"));
    flow_describe_scripts(out);
}

static void print_events(struct buf *out)
{
    buf_append(out,
               STR("# Reference: events\n\n"
                   "What the log, `postern message events` and the API show. An event is one "
                   "JSON object a line: `time`, `seq`, `event`, `severity`, `node`, `rev`, then "
                   "its fields. `seq` counts the events of the process, of all severities: "
                   "where the log shows all of them, a gap is a loss; how many were lost "
                   "says `events.dropped`. `postern docs EVENT` says what stands here of one "
                   "event; with `log: { to: journal }` so does `journalctl -x`. "
                   "Which to act on: [Troubleshooting](06-troubleshooting.md).\n\n"
                   "| event | severity | meaning, and what to do |\n|---|---|---|\n"));
    for (int type = 0; type < EVENT_TYPE_COUNT; type++) {
        buf_printf(out, "| `%s` | %s | ", event_name((enum event_type)type),
                   event_severity_name(event_severity((enum event_type)type)));
        option_print_prose(str_c(event_text((enum event_type)type)), out);
        const char *advice = event_advice((enum event_type)type);
        if (*advice) {
            buf_append_byte(out, ' ');
            option_print_prose(str_c(advice), out);
        }
        buf_append(out, STR(" |\n"));
    }
    buf_append(out, STR("\nFields:"));
    for (int key = 0; key < EVENT_KEY_COUNT; key++)
        buf_printf(out, "%s `%s`", key ? "," : "", event_key_name((enum event_key)key));
    buf_append(out, STR(".\n\nFields whose names end in `_us` are microseconds.\n\n"
                        "Values of `reason`:"));
    for (int reason = 0; reason < MAIL_REASON_COUNT; reason++)
        buf_printf(out, "%s `%s`", reason ? "," : "", mail_reason_name((enum mail_reason)reason));
    buf_append(
        out,
        STR(".\n\n`reason` says why in a word of this list; what else there is to say stands in "
            "`detail`. Of `config.problem` it is the code of the problem, of "
            "`dmarc.result` DMARC's own word.\n"));
}

/* For journald: journalctl --update-catalog takes it from /usr/lib/systemd/catalog. */
static void print_catalog(struct buf *out)
{
    buf_append(out,
               STR("# Made from the tables of the code. SPDX-License-Identifier: Apache-2.0\n"));
    for (int i = 0; i < EVENT_TYPE_COUNT; i++) {
        enum event_type type = (enum event_type)i;
        const char *advice = event_advice(type);
        char id[EVENT_ID_SIZE];
        buf_printf(out,
                   "\n-- %s\nSubject: %s\nDefined-By: Postern\nDocumentation: "
                   "man:postern-events(7)\n\n%s\n\n%s\n",
                   log_journal_id(type, id), event_name(type), event_text(type),
                   *advice ? advice : "Nothing to do.");
    }
}

static void print_metrics(struct buf *out)
{
    buf_append(out, STR("# Reference: metrics\n\n"
                        "What `/metrics` shows, in the text format of Prometheus. How to reach it, "
                        "and which to alert on: [Metrics](11-metrics.md).\n\n"
                        "## Counted from events\n\n"
                        "They begin at 0 when the process starts.\n\n"
                        "| metric | kind | labels | meaning |\n|---|---|---|---|\n"));
    metrics_describe(out);
    buf_append(out, STR("\n## Looked at when asked\n\n"
                        "| metric | kind | labels | meaning |\n|---|---|---|---|\n"));
    admin_describe_gauges(out);
}

static void print_commands(struct buf *out)
{
    buf_append(out,
               STR("# Reference: commands\n\n"
                   "`postern [--socket PATH] [--json|--plain] [--yes] [--no-color] NOUN [VERB] …`. "
                   "The socket is `--socket`, else the variable `POSTERN_SOCKET`, else "
                   "`/run/postern/control.sock`.\n\n"
                   "| command | what it does |\n|---|---|\n"));
    for (const struct ctl_command *c = ctl_commands; c->noun; c++) {
        buf_printf(out, "| `postern %s%s%s", c->noun, c->verb ? " " : "", c->verb ? c->verb : "");
        buf_append(out, c->usage[0] ? STR(" ") : STR(""));
        for (const char *at = c->usage; *at; at++) /* a bar would end the cell */
            buf_printf(out, "%s%c", *at == '|' ? "\\" : "", *at);
        buf_append(out, STR("` | "));
        option_print_prose(str_c(c->text), out);
        buf_append(out, STR(" |\n"));
    }
    buf_append(out, STR("\nSELECTORS say which mail is meant ([Queue](05-queue.md)):\n\n"
                        "| selector | fits what | of |\n|---|---|---|\n"));
    for (const struct selector *selector = selection_selectors; selector->option; selector++)
        buf_printf(out, "| `%s %s` | %s | %s |\n", selector->option, selector->value,
                   selector->text,
                   selector->of == SELECTION_BOTH    ? "both"
                   : selector->of == SELECTION_QUEUE ? "the queue"
                                                     : "the quarantine");
    buf_append(out, STR("\n"
                        "| exit code | meaning |\n|---|---|\n"
                        "| 0 | yes |\n| 1 | it worked, and the answer is no |\n"
                        "| 2 | the command line is wrong |\n| 3 | no daemon at the socket |\n"
                        "| 4 | not allowed |\n| 5 | conflict |\n| 6 | done in part |\n"
                        "| 7 | not now, try again |\n"));
}

static void print_daemon(struct buf *out)
{
    buf_append(
        out,
        STR("# Reference: the daemon\n\n"
            "The gateway: it takes mail, asks the flows what may come in, keeps it safe in its "
            "spool "
            "and delivers it. It stays in the foreground. One process holds the listening sockets "
            "and "
            "starts another that works; if that dies it is started again.\n\n"
            "## Options\n\n"
            "- `--config FILE`: the configuration, usually `/etc/postern/postern.yaml`\n"
            "- `--check`: only say what is wrong with it: exit 0 nothing, 1 errors\n"
            "- `--unconfined`: for debugging: the working process keeps all paths and system "
            "calls\n"
            "- `--version`: print the version\n"
            "- `--help`: print these options\n\n"
            "## Signals\n\n"
            "- `SIGHUP`: read the configuration again; one with errors is refused and the old one "
            "stays\n"
            "- `SIGUSR1`: open the log file again, after it was rotated\n"
            "- `SIGTERM`: take no new mail, let sessions and attempts end, stop\n\n"
            "## Environment\n\n"
            "- `NOTIFY_SOCKET`: systemd is told here when mail is accepted, a reload begins and "
            "ends, "
            "and that the end has begun\n"
            "- `LISTEN_FDS`: listening sockets that systemd has opened; one is used by the "
            "listener "
            "whose address is the same\n"
            "- `CREDENTIALS_DIRECTORY`: where `credential:NAME` in a path of the configuration is "
            "looked for\n"));
}

/* Of the package that puts them where programs call them. */
static void print_sendmail(struct buf *out)
{
    buf_append(
        out,
        STR("# Reference: sendmail\n\n"
            "What programs call that send mail: `sendmail` takes a message from standard input, "
            "`mailq` prints the queue, `newaliases` has nothing to do and says yes. A message goes "
            "over the control socket of the gateway; who may not open that speaks SMTP to the "
            "address in `POSTERN_SMTP`, or to port 25 of this host, and the flows judge it as "
            "they judge any mail.\n\n"
            "## Options\n\n"
            "- `-t`: the recipients are in To, Cc and Bcc; Bcc is taken out\n"
            "- `-i`, `-oi`: a line with a dot alone is text, not the end\n"
            "- `-f ADDRESS`, `-r ADDRESS`: the sender; `<>` for none\n"
            "- `-F NAME`: the name in a From that is made\n"
            "- `-bm`: take a message, as without it; `-bp`: as `mailq`; `-bi`: as `newaliases`\n"
            "- `-q`: the queue runs by itself: says yes\n"
            "- `-A -B -C -D -d -G -g -H -h -L -m -N -n -O -o -p -R -s -U -V -v -X -x`: taken, and "
            "do nothing\n\n"
            "## Exit code\n\n"
            "0 means that the gateway has the message on stable storage. Others are those of "
            "sysexits.h:\n\n"
            "- `64`: the command line\n"
            "- `65`: no recipients, not an address\n"
            "- `67`: the recipient does not exist\n"
            "- `69`: refused for good\n"
            "- `75`: refused for now, or no gateway\n"
            "- `77`: the socket is not for this user\n\n"
            "## Environment\n\n"
            "- `POSTERN_SOCKET`: the control socket\n"
            "- `POSTERN_SMTP`: address and port to speak SMTP to\n"
            "- `POSTERN_DOMAIN`: of an address without one, in the place of the host's name\n"));
}

#define ALSO_ALL                                                                                   \
    "\\fBpostern\\fP(1), \\fBpostern.yaml\\fP(5), \\fBpostern\\-blocks\\fP(7),\n"                  \
    "\\fBpostern\\-events\\fP(7), \\fBpostern\\-metrics\\fP(7), \\fBpostern\\-scripts\\fP(7),\n"   \
    "\\fBposternd\\fP(8)"

static const char settings_examples[] =
    "- `postern init relay-authenticated --domain example.org --server mail.internal:25`: write a "
    "first one\n"
    "- `postern check postern.yaml`: all that is wrong with it, with file, line and column\n"
    "- `postern apply --confirm 10m`: put it into force; it is taken back unless confirmed\n"
    "- `postern config show --effective`: what is in force, with every default\n";
static const char blocks_examples[] =
    "- `- reject: { when: client in blocked, reply: \"554 5.7.1 Not here\" }`: a step that "
    "refuses\n"
    "- `- lookup-smtp: { server: mail }`: ask the mail server whether the recipient exists\n"
    "- `postern block doc limit`: what stands here about one block\n"
    "- `postern explain anna@example.org`: which steps a message would go through\n";
static const char scripts_examples[] =
    "- `- script: { file: checks.lua }`: a step that asks a script\n"
    "- `postern check --live`: loads every script\n"
    "- `postern trace ID`: what a script said, and how long it took\n";
static const char events_examples[] =
    "- `postern trace 7KQ2M9XD`: the story behind the ref in a refusal\n"
    "- `postern tail -q 'event:delivery. verdict:failed'`: failures as they happen\n"
    "- `postern docs delivery.deferred`: what one event means, and what to do\n"
    "- `journalctl -u postern -p warning -x`: the same under each line of the journal\n"
    "- `journalctl -u postern POSTERN_REF=7KQ2M9XD`: by a field, with `log: { to: journal }`\n";
static const char metrics_examples[] =
    "- `postern metrics`: all of them, as text\n"
    "- `curl --unix-socket /run/postern/control.sock http://localhost/metrics`: the same\n"
    "- `metrics: { listen: [ \"127.0.0.1:9925\" ] }`: for a Prometheus, in the configuration\n"
    "- `sum by (reason) (rate(postern_smtp_rejects_total[5m]))`: why mail is refused\n"
    "- `sum by (direction, verdict) (rate(postern_verdicts_total[5m]))`: what becomes of it\n";
static const char commands_examples[] =
    "- `postern status`: is mail flowing?\n"
    "- `postern find to:anna@example.org today`: what became of her mail\n"
    "- `postern trace 7KQ2M9XD`: why that was refused\n"
    "- `postern queue causes`: why mail waits, most frequent first\n"
    "- `postern transport pause internet --reason 'new address'`: nothing leaves for now\n"
    "- `postern --json queue list --older 1h`: for scripts, one object a line\n";
static const char daemon_examples[] =
    "- `posternd --config /etc/postern/postern.yaml --check`: is the configuration right?\n"
    "- `systemctl reload postern`: read it again\n"
    "- `posternd --config postern.yaml`: in a terminal, with readable lines\n";

static const char sendmail_examples[] =
    "- `sendmail anna@example.org <letter`: hand over a message\n"
    "- `sendmail -t -f sender@example.org <letter`: to those that it names itself\n"
    "- `mailq`: what waits\n";

static const struct {
    const char *name;
    void (*print)(struct buf *out);
    struct man_page man;
} pages[] = {
    {"settings",
     print_settings,
     {"postern.yaml", "5", "configuration of the Postern mail gateway",
      "`/etc/postern/postern.yaml`", settings_examples, ALSO_ALL}},
    {"blocks",
     print_blocks,
     {"postern\\-blocks", "7", "steps of the flows of the Postern mail gateway", NULL,
      blocks_examples, ALSO_ALL}},
    {"scripts",
     print_scripts,
     {"postern\\-scripts", "7", "what Lua scripts find in the Postern mail gateway", NULL,
      scripts_examples, ALSO_ALL}},
    {"events",
     print_events,
     {"postern\\-events", "7", "what the Postern mail gateway tells of its work", NULL,
      events_examples, ALSO_ALL}},
    {"commands",
     print_commands,
     {"postern", "1", "watch and steer the Postern mail gateway",
      "`postern [--socket PATH] [--json|--plain] [--yes] [--no-color] NOUN [VERB] …`",
      commands_examples, ALSO_ALL}},
    {"metrics",
     print_metrics,
     {"postern\\-metrics", "7", "what the Postern mail gateway counts", NULL, metrics_examples,
      ALSO_ALL}},
    {"daemon",
     print_daemon,
     {"posternd", "8", "the Postern mail gateway", "`posternd --config FILE [--check]`",
      daemon_examples, ALSO_ALL}},
    {"sendmail",
     print_sendmail,
     {"postern\\-sendmail", "1", "hand mail to the Postern mail gateway",
      "`sendmail [OPTIONS] [RECIPIENT…]`, `mailq`, `newaliases`", sendmail_examples, ALSO_ALL}},
    {"catalog", print_catalog, {0}},
};

/* What an event means, and what to do. False: there is no such event. */
static bool print_event(const char *name)
{
    for (int i = 0; i < EVENT_TYPE_COUNT; i++) {
        enum event_type type = (enum event_type)i;
        if (strcmp(name, event_name(type)) != 0)
            continue;
        const char *advice = event_advice(type);
        char id[EVENT_ID_SIZE];
        printf("%s (%s)\n\n%s\n%s\n\nin the journal: journalctl -x MESSAGE_ID=%s\n", name,
               event_severity_name(event_severity(type)), event_text(type),
               *advice ? advice : "Nothing to do.", log_journal_id(type, id));
        return true;
    }
    return false;
}

int ctl_docs(struct ctl *ctl)
{
    bool man = ctl_flag(ctl, "--man");
    ctl_arguments(ctl, 1, 1);
    if (!man && print_event(ctl->argv[0]))
        return CTL_YES;
    struct buf text BUF_CLEANUP, formatted BUF_CLEANUP;
    buf_init(&text, PAGE_MAX);
    buf_init(&formatted, PAGE_MAX);
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        if (strcmp(ctl->argv[0], pages[i].name) != 0)
            continue;
        pages[i].print(&text);
        if (!pages[i].man.name) /* it is no page of man */
            break;
        man_print(&pages[i].man, buf_str(&text), &formatted);
    }
    if (text.len == 0) {
        fprintf(stderr,
                "postern: the pages are: settings, blocks, scripts, events, commands, metrics, "
                "daemon, sendmail, catalog, or the name of an event\n");
        return CTL_USAGE;
    }
    struct buf *shown = man ? &formatted : &text;
    while (shown->len > 1 && shown->ptr[shown->len - 2] == '\n') /* one line end at the end */
        shown->len--;
    if (ctl->json)
        ctl_print_page(ctl, "page", ctl->argv[0], buf_str(shown));
    else
        fwrite(shown->ptr, 1, shown->len, stdout);
    return CTL_YES;
}

void ctl_print_markdown(struct str text)
{
    struct buf plain BUF_CLEANUP;
    buf_init(&plain, PAGE_MAX);
    man_print_plain(text, &plain);
    while (plain.len > 1 && plain.ptr[plain.len - 2] == '\n')
        plain.len--;
    fwrite(plain.ptr, 1, plain.len, stdout);
}
