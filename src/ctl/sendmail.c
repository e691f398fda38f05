/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/sendmail.c - sendmail, mailq and newaliases: options of old, and the way to the gateway.
 *
 * A message goes over the control socket; who may not open that (it belongs to a group), and hosts
 * without one, speak SMTP to the address in POSTERN_SMTP or to port 25 of this host. Exit code 0
 * means that the gateway has it on stable storage.
 */
#include "ctl/sendmail.h"

#include "ctl/list.h"

#include "crypto/base64.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum { MESSAGE_MAX = 64 * 1024 * 1024 };

struct sending {
    struct ctl *ctl;
    const char *domain;    /* of this host */
    const char *sender;    /* with a domain; "" for <> */
    const char *full_name; /* or NULL */
    bool from_fields;      /* -t */
    bool dots;             /* a line with a dot alone is text */
    struct sendmail_recipients recipients;
};

/* ---- this host and this user ---- */

static const char *host_domain(struct ctl *ctl)
{
    char name[256] = "localhost";
    const char *given = getenv("POSTERN_DOMAIN");
    if (given && given[0])
        return given;
    gethostname(name, sizeof name - 1);
    return arena_c(ctl->arena, str_c(name));
}

static const char *with_domain(struct sending *sending, const char *address)
{
    struct sendmail_recipients one = {0};
    if (address[0] == '\0' || strcmp(address, "<>") == 0)
        return "";
    sendmail_add_addresses(sending->ctl->arena, str_c(address), sending->domain, &one);
    return one.count ? one.items[0] : "";
}

static const char *own_name(struct ctl *ctl)
{
    const struct passwd *user = getpwuid(getuid());
    return user ? arena_c(ctl->arena, str_c(user->pw_name)) : "nobody";
}

/* ---- reading ---- */

/* Standard input up to its end, or to a line with nothing but a dot. */
static bool read_message(bool dots, struct buf *out)
{
    char *line = NULL;
    size_t size = 0;
    for (ssize_t got; (got = getline(&line, &size, stdin)) > 0;) {
        struct str text = str_of(line, (size_t)got);
        if (!dots && (str_equal(text, STR(".\n")) || str_equal(text, STR(".\r\n"))))
            break;
        buf_append(out, text);
    }
    free(line);
    return !out->overflow && !ferror(stdin);
}

/* ---- handing over ---- */

/* "550 5.1.1 no such user" as an exit code */
static int exit_of_reply(const char *reply)
{
    if (reply[0] == '2')
        return EX_OK;
    if (reply[0] == '4')
        return EX_TEMPFAIL;
    if (strncmp(reply, "501", 3) == 0 || strncmp(reply, "553", 3) == 0)
        return EX_DATAERR;
    return strstr(reply, " 5.1.1 ") ? EX_NOUSER : EX_UNAVAILABLE;
}

static int send_by_socket(struct sending *sending, const struct buf *message)
{
    struct buf encoded BUF_CLEANUP;
    buf_init(&encoded, (size_t)MESSAGE_MAX * 2);
    base64_encode(buf_str(message), &encoded);
    json_t *to = json_array();
    for (size_t i = 0; i < sending->recipients.count; i++)
        json_array_append_new(to, json_string(sending->recipients.items[i]));
    json_t *body = json_pack("{s:s, s:o, s:o}", "from", sending->sender, "to", to, "data_base64",
                             json_stringn(encoded.ptr, encoded.len));
    if (!body)
        return EX_DATAERR;
    struct ctl_answer answer;
    int code = ctl_request(sending->ctl, "POST", "/api/v1/messages", body, &answer);
    json_decref(body);
    if (code)
        return code == CTL_NOT_ALLOWED ? EX_NOPERM : code == CTL_USAGE ? EX_DATAERR : EX_TEMPFAIL;
    const char *reply = ctl_text(answer.json, "reply");
    int exit_code = exit_of_reply(reply);
    if (exit_code != EX_OK) {
        fprintf(stderr, "sendmail: ");
        for (const char *at = reply; *at; at++)
            fputc(*at >= 32 && *at < 127 ? *at : '?', stderr);
        fputc('\n', stderr);
    }
    json_decref(answer.json);
    return exit_code;
}

static int hand_over(struct sending *sending, const struct buf *message)
{
    if (access(sending->ctl->socket_path, R_OK | W_OK) == 0)
        return send_by_socket(sending, message);
    const char *server = getenv("POSTERN_SMTP");
    struct ctl_mail mail = {
        .server = server && server[0] ? server : "127.0.0.1:25",
        .sender = sending->sender,
        .recipients = sending->recipients.items,
        .recipient_count = sending->recipients.count,
        .data = buf_str(message),
    };
    char reply[512];
    ctl_smtp(sending->ctl, &mail, reply, sizeof reply);
    int code = exit_of_reply(reply[0] ? reply : "4");
    if (code != EX_OK)
        fprintf(stderr, "sendmail: %s: %s\n", mail.server, reply[0] ? reply : "no answer");
    return code;
}

static int send_message(struct sending *sending)
{
    struct buf typed BUF_CLEANUP, message BUF_CLEANUP;
    buf_init(&typed, MESSAGE_MAX);
    buf_init(&message, MESSAGE_MAX);
    if (!sending->from_fields && sending->recipients.count == 0) {
        fprintf(stderr, "sendmail: no recipients\n");
        return EX_USAGE;
    }
    const char *author =
        sending->sender[0] ? sending->sender : with_domain(sending, "MAILER-DAEMON");
    if (!read_message(sending->dots, &typed) ||
        !sendmail_complete(sending->ctl->arena, buf_str(&typed), sending->from_fields, author,
                           sending->full_name, sending->domain, &sending->recipients, &message)) {
        fprintf(stderr, "sendmail: the message is too large or could not be read\n");
        return EX_DATAERR;
    }
    if (sending->recipients.count == 0 || sending->recipients.too_many) {
        fprintf(stderr, "sendmail: %s recipients\n", sending->recipients.count ? "too many" : "no");
        return EX_DATAERR;
    }
    return hand_over(sending, &message);
}

/* ---- mailq ---- */

static void print_entry(json_t *item)
{
    printf("%-26s %8lld ", ctl_text(item, "message"), ctl_number(item, "size"));
    ctl_print_time_as(ctl_text(item, "accepted"), "%a %b %e %H:%M:%S      ");
    ctl_print_text(ctl_text(item, "from")[0] ? ctl_text(item, "from") : "MAILER-DAEMON");
    printf("\n");
    if (ctl_text(item, "error")[0]) {
        printf("%27s(", "");
        ctl_print_text(ctl_text(item, "error"));
        printf(")\n");
    }
    size_t i;
    json_t *recipient;
    json_array_foreach(json_object_get(item, "to"), i, recipient)
    {
        if (json_is_true(json_object_get(recipient, "done")))
            continue;
        printf("%61s", "");
        ctl_print_text(ctl_text(recipient, "to"));
        printf("\n");
    }
    printf("\n");
}

struct mailq {
    long long count, bytes;
};

/* Before it is printed. */
static void note_entry(json_t *item, void *context)
{
    struct mailq *mailq = context;
    if (mailq->count++ == 0)
        printf("%-26s %8s %-24s %s\n", "-Queue ID-", "--Size--", "----Arrival Time----",
               "-Sender/Recipient-------");
    mailq->bytes += ctl_number(item, "size");
}

static int print_queue(struct ctl *ctl)
{
    struct ctl_listed listed;
    struct mailq mailq = {0};
    const struct ctl_list list = {"/api/v1/queue/messages", "Entry", .print = print_entry,
                                  .look = note_entry, .context = &mailq};
    int code = ctl_list(ctl, &list, &listed);
    if (code)
        return code == CTL_NOT_ALLOWED ? EX_NOPERM : EX_TEMPFAIL;
    if (mailq.count)
        printf("-- %lld Kbytes in %lld Request%s.\n", (mailq.bytes + 1023) / 1024, mailq.count,
               mailq.count == 1 ? "" : "s");
    else
        printf("Mail queue is empty\n");
    ctl_listed_free(&listed);
    return EX_OK;
}

/* ---- options ---- */

static int take_mode(struct sending *sending, const char *mode)
{
    switch (mode ? mode[0] : 'm') {
    case 'm':
        return send_message(sending);
    case 'p':
        return print_queue(sending->ctl);
    case 'i':
        return EX_OK; /* there is no table of aliases to build */
    default:
        fprintf(stderr, "sendmail: -b%s is not for this command: posternd takes mail\n", mode);
        return EX_USAGE;
    }
}

static int run_sendmail(struct ctl *ctl)
{
    struct sending *sending = ARENA_NEW(ctl->arena, struct sending);
    const char *mode = NULL, *sender = NULL;
    bool flush = false;
    sending->ctl = ctl;
    sending->domain = host_domain(ctl);
    opterr = 0;
    optind = 1;
    for (int found;
         (found = getopt(ctl->argc, ctl->argv,
                         "+A:B:b:C:D:d:F:f:GgH:h:iL:mN:nO:o:p:q::R:r:stTUV:vX:x")) != -1;) {
        switch (found) {
        case 'b':
            mode = optarg;
            break;
        case 'F':
            sending->full_name = optarg;
            break;
        case 'f':
        case 'r':
            sender = optarg;
            break;
        case 'i':
            sending->dots = true;
            break;
        case 'o':
            sending->dots = sending->dots || optarg[0] == 'i';
            break;
        case 't':
            sending->from_fields = true;
            break;
        case 'q':
            flush = true; /* the queue runs by itself */
            break;
        case '?':
            fprintf(stderr, "sendmail: unknown option -%c\n", optopt);
            return EX_USAGE;
        default:
            break; /* says how to do what we do in our own way */
        }
    }
    sending->sender = with_domain(sending, sender ? sender : own_name(ctl));
    for (int i = optind; i < ctl->argc; i++)
        sendmail_add_addresses(ctl->arena, str_c(ctl->argv[i]), sending->domain,
                               &sending->recipients);
    if (flush && !mode && optind == ctl->argc && !sending->from_fields)
        return EX_OK;
    return take_mode(sending, mode);
}

bool sendmail_by_name(struct ctl *ctl, const char *name, int *out_code)
{
    if (strcmp(name, "sendmail") == 0)
        *out_code = run_sendmail(ctl);
    else if (strcmp(name, "mailq") == 0)
        *out_code = print_queue(ctl);
    else if (strcmp(name, "newaliases") == 0)
        *out_code = EX_OK;
    else
        return false;
    return true;
}
