/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/ctl.h - the `postern` command: what its verbs share.
 *
 * Data goes to standard output, everything else to standard error; --json prints the API's fields.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"

#include <jansson.h>

enum ctl_exit {
    CTL_YES = 0,
    CTL_NO = 1, /* worked, but the answer is no */
    CTL_USAGE = 2,
    CTL_NO_DAEMON = 3,
    CTL_NOT_ALLOWED = 4,
    CTL_CONFLICT = 5,
    CTL_PARTLY = 6,
    CTL_TRY_AGAIN = 7,
};

struct ctl_command;
/* Parsed command line of one verb. */
struct ctl {
    struct arena *arena;
    const char *socket_path;
    bool json;  /* for a program: --json or --plain */
    bool plain; /* --plain, else --json */
    bool yes;   /* no questions */
    bool colour;
    bool dry_run;                      /* changes are only tried */
    const char *reason;                /* why, for changes; NULL: nobody says */
    const char *if_match;              /* of the next request; NULL: none */
    const struct ctl_command *command; /* that runs */
    int argc; /* what is left: positional arguments and the verb's own options */
    char **argv;
};

struct ctl_command {
    const char *noun; /* "queue" */
    const char *verb; /* "list", or NULL */
    int (*run)(struct ctl *ctl);
    const char *usage; /* behind "postern noun verb" */
    const char *text;  /* one line */
};
extern const struct ctl_command ctl_commands[]; /* ends with a NULL noun */

int ctl_check(struct ctl *ctl);
int ctl_test(struct ctl *ctl);
int ctl_explain(struct ctl *ctl);
int ctl_session(struct ctl *ctl);

int ctl_status(struct ctl *ctl);
int ctl_metrics(struct ctl *ctl);
int ctl_init(struct ctl *ctl);
int ctl_contain(struct ctl *ctl);
int ctl_incident_list(struct ctl *ctl);
int ctl_incident_show(struct ctl *ctl);
int ctl_incident_close(struct ctl *ctl);
int ctl_queue_list(struct ctl *ctl);
int ctl_queue_show(struct ctl *ctl);
int ctl_queue_retry(struct ctl *ctl);
int ctl_queue_hold(struct ctl *ctl);
int ctl_queue_release(struct ctl *ctl);
int ctl_queue_fail(struct ctl *ctl);
int ctl_queue_drop(struct ctl *ctl);
int ctl_queue_causes(struct ctl *ctl);
int ctl_queue_cause(struct ctl *ctl);
int ctl_queue_shape(struct ctl *ctl);
int ctl_quarantine_status(struct ctl *ctl);
int ctl_quarantine_list(struct ctl *ctl);
int ctl_quarantine_show(struct ctl *ctl);
int ctl_quarantine_raw(struct ctl *ctl);
int ctl_quarantine_release(struct ctl *ctl);
int ctl_quarantine_delete(struct ctl *ctl);
int ctl_quarantine_digest(struct ctl *ctl);
int ctl_quarantine_key(struct ctl *ctl);
int ctl_transport_list(struct ctl *ctl);
int ctl_transport_show(struct ctl *ctl);
int ctl_transport_pause(struct ctl *ctl);
int ctl_transport_resume(struct ctl *ctl);
int ctl_transport_slow(struct ctl *ctl);
int ctl_transport_test(struct ctl *ctl);
int ctl_message_raw(struct ctl *ctl);
int ctl_message_events(struct ctl *ctl);
int ctl_trace(struct ctl *ctl);
int ctl_find(struct ctl *ctl);
int ctl_tail(struct ctl *ctl);
int ctl_token_create(struct ctl *ctl);
int ctl_token_list(struct ctl *ctl);
int ctl_token_revoke(struct ctl *ctl);
int ctl_user_add(struct ctl *ctl);
int ctl_user_passwd(struct ctl *ctl);
int ctl_user_list(struct ctl *ctl);
int ctl_user_rm(struct ctl *ctl);
int ctl_dkim_generate(struct ctl *ctl);
int ctl_dkim_list(struct ctl *ctl);
int ctl_dkim_publish(struct ctl *ctl);
int ctl_dkim_status(struct ctl *ctl);
int ctl_dkim_rotate(struct ctl *ctl);
int ctl_dkim_revoke(struct ctl *ctl);
int ctl_report_dmarc(struct ctl *ctl);
int ctl_report_list(struct ctl *ctl);
int ctl_report_send(struct ctl *ctl);
int ctl_domain_check(struct ctl *ctl);
int ctl_domain_list(struct ctl *ctl);
int ctl_webhook_list(struct ctl *ctl);
int ctl_webhook_show(struct ctl *ctl);
int ctl_webhook_test(struct ctl *ctl);
int ctl_webhook_deliveries(struct ctl *ctl);
int ctl_webhook_delivery(struct ctl *ctl);
int ctl_webhook_retry(struct ctl *ctl);
int ctl_webhook_pause(struct ctl *ctl);
int ctl_webhook_resume(struct ctl *ctl);
int ctl_send(struct ctl *ctl);
int ctl_spool_verify(struct ctl *ctl);
int ctl_schema(struct ctl *ctl);
int ctl_block_list(struct ctl *ctl);
int ctl_block_doc(struct ctl *ctl);
int ctl_config_show(struct ctl *ctl);
int ctl_config_revision(struct ctl *ctl);
int ctl_config_history(struct ctl *ctl);
int ctl_config_diff(struct ctl *ctl);
int ctl_config_apply(struct ctl *ctl);
int ctl_config_confirm(struct ctl *ctl);
int ctl_config_rollback(struct ctl *ctl);
int ctl_shadow(struct ctl *ctl);
int ctl_config_write(struct ctl *ctl);
int ctl_completion(struct ctl *ctl);
int ctl_docs(struct ctl *ctl);

/* Take "--name VALUE" or "--name=VALUE" out of the arguments; NULL if it is not there. Exits with
 * CTL_USAGE when the value is missing. */
const char *ctl_option(struct ctl *ctl, const char *name);
/* Take "--name" out. */
bool ctl_flag(struct ctl *ctl, const char *name);
/* Complain about options that nobody took, and about too few or too many arguments; exits. */
void ctl_arguments(struct ctl *ctl, int least, int most);

struct loop;
/* Run a MAY_YIELD function in a fiber of a loop made for it, until it returns. */
enum result ctl_on_loop(void (*run)(struct loop *loop, void *arg), void *arg, struct error *err);

/* Ask; --yes or no terminal means yes. */
bool ctl_confirm(struct ctl *ctl, const char *question);

/* ---- the daemon's API ---- */

struct ctl_answer {
    long status;  /* HTTP status */
    json_t *json; /* parsed, if it is JSON; owned by the answer */
    struct str body;
};
/*
 * One request over the control socket; `body` (may be NULL) is borrowed. Prints why and returns an
 * exit code above 0 when there is no usable answer; 0 with *out filled (2xx) otherwise.
 */
int ctl_request(struct ctl *ctl, const char *method, const char *path, json_t *body,
                struct ctl_answer *out);
/* A GET whose answer does not end: each piece goes to `take_piece` until it says false. */
int ctl_listen(struct ctl *ctl, const char *path, bool (*take_piece)(struct str piece, void *arg),
               void *arg);
/* A message by SMTP to `server` (host:port), in the clear; all recipients or none. `out_reply`: the
 * last reply ("250 …"), or empty when there was no answer at all. */
struct ctl_mail {
    const char *server, *sender;
    const char *const *recipients;
    size_t recipient_count;
    struct str data;
};
void ctl_smtp(struct ctl *ctl, const struct ctl_mail *mail, char *out_reply, size_t reply_size);
/* GET one thing and show it, as JSON or by `print`; the exit code. */
int ctl_show(struct ctl *ctl, const char *path, void (*print)(json_t *object));
void ctl_warn_of_loading(json_t *answer);
/* Text for a URL, percent-encoded, in the arena. */
const char *ctl_url_text(struct ctl *ctl, const char *text);
/* `base` with a query made of an object of texts; in the arena. */
const char *ctl_path_with(struct ctl *ctl, const char *base, json_t *query);

/* ---- output ---- */

void ctl_print_json(json_t *value);
/* A message, or a file of others: in a pipe or a file every byte of it, on a terminal only what
 * that shows and does not obey. */
void ctl_print_file(struct str text);
/* Markdown of the tables as plain text for a terminal. */
void ctl_print_markdown(struct str text);
/* Write text with control characters made visible: nothing from mail may steer a terminal. */
void ctl_print_text(const char *text);
/* The configuration that a command looks at when none is named: the usual file; but that of the
 * daemon, if another socket than the usual one is asked for, or the usual file is missing. */
const char *ctl_config_path(struct ctl *ctl);
/* Ends the process with a word about it unless it can be an id or a ref. */
void ctl_require_id(const char *text);
/* One line: time, name and what else an event has; its ids where many stories are mixed. */
void ctl_print_event(const struct ctl *ctl, json_t *event, bool with_ids);
/* A time of the API ("2026-11-24T10:21:00Z") as the clock on the wall shows it. */
void ctl_print_time(const char *utc, bool with_day);
/* The same in another form of strftime. */
void ctl_print_time_as(const char *utc, const char *format);
/* That of a member, with words before it; nothing where there is none. */
void ctl_print_moment(const char *before, json_t *object, const char *name);
/* String member of an object, or "". */
const char *ctl_text(json_t *object, const char *name);
long long ctl_number(json_t *object, const char *name);
