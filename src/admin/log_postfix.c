/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/log_postfix.h"

#include "base/buf.h"
#include "base/clock.h"
#include "mail/id.h"
#include "mail/reply.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 8192, PROCESS_FIRST = 100000, PROCESS_COUNT = 900000 };

struct writing {
    const struct event *event;
    void (*put)(const char *program, unsigned process, struct str line, void *arg);
    void *arg;
    struct buf line;
};

/* ---- fields ---- */

static const struct event_field *find(const struct event *event, enum event_key key)
{
    for (unsigned i = 0; i < event->count; i++)
        if (event->fields[i].key == key)
            return &event->fields[i];
    return NULL;
}

static struct str text_of(const struct writing *to, enum event_key key)
{
    const struct event_field *field = find(to->event, key);
    return field && field->kind == EVENT_VALUE_STR ? field->text : STR_EMPTY;
}

static int64_t number_of(const struct writing *to, enum event_key key)
{
    const struct event_field *field = find(to->event, key);
    return field && field->kind == EVENT_VALUE_INT ? field->number : 0;
}

/* ---- words ---- */

static void put_c(struct writing *to, const char *words)
{
    buf_append(&to->line, str_c(words));
}

/* Postfix writes a question mark for what is not printable; `taken` may not stand there either,
 * because the words around it would be mistaken. */
static void put_safe(struct writing *to, struct str text, const char *taken)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        bool safe = c >= 0x20 && c < 0x7F && str_find(str_c(taken), c) < 0;
        buf_append_byte(&to->line, safe ? c : '?');
    }
}

static void put_address(struct writing *to, const char *name, struct str address)
{
    buf_printf(&to->line, "%s=<", name);
    put_safe(to, address, "<>");
    buf_append_byte(&to->line, '>');
}

/* The name is one that DNS confirmed, when the gateway had a reason to look it up. */
static void put_client(struct writing *to)
{
    struct str client = text_of(to, KEY_CLIENT);
    struct str name = text_of(to, KEY_CLIENT_NAME);
    put_safe(to, name.len ? name : STR("unknown"), "[] ");
    put_c(to, "[");
    put_safe(to, client.len ? client : STR("unknown"), "[] ");
    put_c(to, "]");
}

/* A session is a process of Postfix's smtpd: its lines carry one number. */
static unsigned session_process(const struct writing *to)
{
    struct str session = text_of(to, KEY_SESSION);
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < session.len; i++)
        hash = (hash ^ (unsigned char)session.ptr[i]) * 16777619u;
    return session.len ? PROCESS_FIRST + hash % PROCESS_COUNT : (unsigned)getpid();
}

static void end_line(struct writing *to, const char *program)
{
    bool session = str_equal(str_c(program), STR("smtpd"));
    to->put(program, session ? session_process(to) : (unsigned)getpid(), buf_str(&to->line),
            to->arg);
    buf_clear(&to->line);
}

static void begin_queued(struct writing *to, struct str id)
{
    put_safe(to, id, " :");
    put_c(to, ": ");
}

/* ---- sessions ---- */

static void tell_connection(struct writing *to)
{
    put_c(to, to->event->type == EVENT_SESSION_OPEN ? "connect from " : "disconnect from ");
    put_client(to);
    end_line(to, "smtpd");
}

static void tell_login(struct writing *to)
{
    bool refused = to->event->type == EVENT_AUTH_FAIL;
    put_c(to, "warning: ");
    put_client(to);
    put_c(to, ": SASL ");
    put_safe(to, text_of(to, KEY_MECHANISM), " :");
    put_c(to, refused ? " authentication failed: authentication failure, sasl_username="
                      : " authentication failed: Connection lost to authentication server, "
                        "sasl_username=");
    put_safe(to, text_of(to, KEY_USER), " ");
    end_line(to, "smtpd");
}

static void tell_limit(struct writing *to)
{
    struct str limit = text_of(to, KEY_LIMIT);
    if (str_equal(limit, STR("errors"))) {
        put_c(to, "too many errors after RCPT from ");
        put_client(to);
    } else if (str_equal(limit, STR("sessions_per_client"))) {
        put_c(to, "warning: Connection concurrency limit exceeded: from ");
        put_client(to);
        put_c(to, " for service smtp");
    } else {
        return;
    }
    end_line(to, "smtpd");
}

/* ---- refusals ---- */

/* What Postfix says for the same reason; NULL: our own reply. */
static const char *refusal_words(struct str reason, const char **out_enhanced)
{
    static const struct {
        enum mail_reason reason;
        const char *enhanced;
        const char *words;
    } known[] = {
        {MAIL_REASON_RECIPIENT_UNKNOWN, ".1.1",
         "Recipient address rejected: User unknown in relay recipient table"},
        {MAIL_REASON_RELAY_DENIED, ".7.1", "Relay access denied"},
    };
    *out_enhanced = ".7.1";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!str_equal(reason, str_c(mail_reason_name(known[i].reason))))
            continue;
        *out_enhanced = known[i].enhanced;
        return known[i].words;
    }
    return NULL;
}

static void put_refusal(struct writing *to, bool with_code)
{
    int64_t code = number_of(to, KEY_CODE);
    struct str recipient = text_of(to, KEY_TO);
    const char *enhanced;
    const char *words = refusal_words(text_of(to, KEY_REASON), &enhanced);
    put_client(to);
    put_c(to, ": ");
    if (with_code)
        buf_printf(&to->line, "%lld ", (long long)code);
    buf_printf(&to->line, "%lld%s ", (long long)code / 100, enhanced);
    if (with_code) {
        put_c(to, "<");
        put_safe(to, recipient, "<>");
        put_c(to, words ? ">: " : ">: Recipient address rejected: ");
    }
    if (words)
        put_c(to, words);
    else
        put_safe(to, text_of(to, KEY_REPLY), ";");
    put_c(to, "; ");
    put_address(to, "from", text_of(to, KEY_FROM));
    if (with_code) {
        put_c(to, " ");
        put_address(to, "to", recipient);
    }
    put_c(to, " proto=ESMTP");
    if (text_of(to, KEY_HELO).len) {
        put_c(to, " ");
        put_address(to, "helo", text_of(to, KEY_HELO));
    }
}

static void tell_refused_recipient(struct writing *to)
{
    put_c(to, "NOQUEUE: reject: RCPT from ");
    put_refusal(to, true);
    end_line(to, "smtpd");
}

static void tell_refused_message(struct writing *to)
{
    begin_queued(to, text_of(to, KEY_MESSAGE));
    put_c(to, "milter-reject: END-OF-MESSAGE from ");
    put_refusal(to, false);
    end_line(to, "cleanup");
}

/* ---- accepted ---- */

static void tell_queued(struct writing *to, struct str id, struct str from, int64_t size,
                        int64_t recipients)
{
    begin_queued(to, id);
    put_address(to, "from", from);
    buf_printf(&to->line, ", size=%lld, nrcpt=%lld (queue active)", (long long)size,
               (long long)recipients);
    end_line(to, "qmgr");
}

static void tell_accepted(struct writing *to)
{
    struct str id = text_of(to, KEY_MESSAGE);
    struct str user = text_of(to, KEY_USER);
    bool from_client = text_of(to, KEY_CLIENT).len > 0;
    begin_queued(to, id);
    if (from_client) {
        put_c(to, "client=");
        put_client(to);
        if (user.len) {
            put_c(to, ", sasl_username=");
            put_safe(to, user, " ,");
        }
    } else {
        put_c(to, "uid=0 ");
        put_address(to, "from", text_of(to, KEY_FROM));
    }
    end_line(to, from_client ? "smtpd" : "pickup");
    begin_queued(to, id);
    put_c(to, "message-id=");
    put_safe(to, text_of(to, KEY_MESSAGE_ID), " ");
    end_line(to, "cleanup");
    tell_queued(to, id, text_of(to, KEY_FROM), number_of(to, KEY_SIZE),
                number_of(to, KEY_RECIPIENTS));
}

static void tell_set_aside(struct writing *to)
{
    begin_queued(to, text_of(to, KEY_MESSAGE));
    put_c(to, to->event->type == EVENT_MESSAGE_DISCARDED ? "discard" : "hold");
    put_c(to, ": END-OF-MESSAGE from ");
    put_client(to);
    put_c(to, ": by a flow");
    end_line(to, "cleanup");
}

/* ---- deliveries ---- */

/* Since the message came; its id says when. */
static int64_t age_ms(const struct writing *to)
{
    struct mail_id id;
    if (!mail_id_parse(text_of(to, KEY_MESSAGE), &id))
        return 0;
    int64_t age = to->event->wall_ns / NS_PER_MS - mail_id_time_ms(id);
    return age > 0 ? age : 0;
}

static void put_seconds(struct writing *to, int64_t ms)
{
    buf_printf(&to->line, "%lld.%02lld", (long long)ms / 1000, (long long)ms % 1000 / 10);
}

/* delay=the age, delays=before the queue/in the queue/to connect/to transfer */
static void put_delays(struct writing *to)
{
    int64_t age = age_ms(to);
    int64_t connect = (number_of(to, KEY_DNS_US) + number_of(to, KEY_CONNECT_US) +
                       number_of(to, KEY_TLS_US) + number_of(to, KEY_GREETING_US)) /
                      1000;
    int64_t transfer = number_of(to, KEY_TRANSFER_US) / 1000;
    int64_t queue = age > connect + transfer ? age - connect - transfer : 0;
    put_c(to, ", delay=");
    put_seconds(to, age);
    put_c(to, ", delays=0/");
    put_seconds(to, queue);
    put_c(to, "/");
    put_seconds(to, connect);
    put_c(to, "/");
    put_seconds(to, transfer);
}

/* "mail.example.org[192.0.2.1]", with the port behind it or without */
static bool put_host(struct writing *to, bool with_port)
{
    struct str address = text_of(to, KEY_IP);
    struct str name = text_of(to, KEY_MX);
    ptrdiff_t colon = str_find_last(address, ':');
    if (address.len == 0 || colon < 0)
        return false;
    struct str ip = str_slice(address, 0, (size_t)colon);
    if (ip.len > 2 && ip.ptr[0] == '[')
        ip = str_slice(ip, 1, ip.len - 1);
    put_safe(to, name.len ? name : ip, " ,[]");
    put_c(to, "[");
    put_safe(to, ip, " ,[]");
    put_c(to, "]");
    if (with_port)
        put_safe(to, str_from(address, (size_t)colon), " ,");
    return true;
}

static void put_answer(struct writing *to)
{
    int64_t code = number_of(to, KEY_CODE);
    struct str enhanced = text_of(to, KEY_ENHANCED);
    if (code)
        buf_printf(&to->line, "%lld ", (long long)code);
    if (enhanced.len) {
        put_safe(to, enhanced, " ()");
        put_c(to, " ");
    }
    put_safe(to, text_of(to, KEY_REPLY), "()");
}

static void put_status(struct writing *to, const char *status, const char *class)
{
    struct str enhanced = text_of(to, KEY_ENHANCED);
    begin_queued(to, text_of(to, KEY_MESSAGE));
    put_address(to, "to", text_of(to, KEY_TO));
    put_c(to, ", relay=");
    if (!put_host(to, true))
        put_c(to, "none");
    put_delays(to);
    put_c(to, ", dsn=");
    if (enhanced.len && enhanced.ptr[0] == class[0])
        put_safe(to, enhanced, " ,");
    else
        buf_printf(&to->line, "%s.0.0", class);
    buf_printf(&to->line, ", status=%s (", status);
    if (class[0] != '2' && number_of(to, KEY_CODE)) {
        put_c(to, "host ");
        if (!put_host(to, false))
            put_c(to, "unknown");
        put_c(to, " said: ");
    }
    put_answer(to);
    put_c(to, ")");
    end_line(to, "smtp");
}

static void tell_delivery(struct writing *to)
{
    switch (to->event->type) {
    case EVENT_DELIVERY_SENT:
        put_status(to, "sent", "2");
        break;
    case EVENT_DELIVERY_DEFERRED:
        put_status(to, "deferred", "4");
        break;
    case EVENT_DELIVERY_FAILED:
        put_status(to, "bounced", "5");
        break;
    default:
        break;
    }
}

static void tell_expired(struct writing *to)
{
    begin_queued(to, text_of(to, KEY_MESSAGE));
    put_address(to, "from", text_of(to, KEY_FROM));
    put_c(to, ", status=expired, returned to sender");
    end_line(to, "qmgr");
}

static void tell_notice(struct writing *to)
{
    struct str notice = text_of(to, KEY_OBJECT);
    struct str kind = text_of(to, KEY_KIND);
    begin_queued(to, text_of(to, KEY_MESSAGE));
    put_c(to, str_equal(kind, STR("failure")) ? "sender non-delivery notification: "
              : str_equal(kind, STR("delay")) ? "sender delay notification: "
                                              : "sender delivery status notification: ");
    put_safe(to, notice, " ");
    end_line(to, "bounce");
    tell_queued(to, notice, STR_EMPTY, number_of(to, KEY_SIZE), 1);
}

static void tell_removed(struct writing *to)
{
    begin_queued(to, text_of(to, KEY_MESSAGE));
    put_c(to, "removed");
    end_line(to, to->event->type == EVENT_MESSAGE_DONE ? "qmgr" : "postsuper");
}

/* ---- the gateway itself ---- */

static void tell_start(struct writing *to)
{
    put_c(to, "daemon started -- version ");
    put_safe(to, text_of(to, KEY_VALUE), "");
    end_line(to, "master");
}

/* What Postfix has no words for, but somebody should know. */
static void tell_warning(struct writing *to)
{
    struct buf human BUF_CLEANUP;
    buf_init(&human, LINE_MAX_BYTES);
    event_format_human(to->event, &human);
    struct str words = buf_str(&human);
    ptrdiff_t blank = str_find(words, ' '); /* behind the time */
    put_c(to, "warning: ");
    put_safe(to, str_trim(str_from(words, blank < 0 ? 0 : (size_t)blank)), "");
    end_line(to, "master");
}

/* ---- which words for which event ---- */

void log_postfix_lines(const struct event *event,
                       void (*put)(const char *program, unsigned process, struct str line,
                                   void *arg),
                       void *arg)
{
    static void (*const tellers[EVENT_TYPE_COUNT])(struct writing * to) = {
        [EVENT_DAEMON_START] = tell_start,
        [EVENT_SESSION_OPEN] = tell_connection,
        [EVENT_SESSION_CLOSE] = tell_connection,
        [EVENT_SESSION_LIMIT] = tell_limit,
        [EVENT_AUTH_FAIL] = tell_login,
        [EVENT_AUTH_ERROR] = tell_login,
        [EVENT_RECIPIENT_REJECT] = tell_refused_recipient,
        [EVENT_RECIPIENT_DEFER] = tell_refused_recipient,
        [EVENT_MESSAGE_ACCEPTED] = tell_accepted,
        [EVENT_MESSAGE_REJECTED] = tell_refused_message,
        [EVENT_MESSAGE_DEFERRED] = tell_refused_message,
        [EVENT_MESSAGE_DISCARDED] = tell_set_aside,
        [EVENT_MESSAGE_HELD] = tell_set_aside,
        [EVENT_MESSAGE_QUARANTINED] = tell_set_aside,
        [EVENT_MESSAGE_DONE] = tell_removed,
        [EVENT_DELIVERY_SENT] = tell_delivery,
        [EVENT_DELIVERY_DEFERRED] = tell_delivery,
        [EVENT_DELIVERY_FAILED] = tell_delivery,
        [EVENT_DELIVERY_EXPIRED] = tell_expired,
        [EVENT_DELIVERY_DROPPED] = tell_removed,
        [EVENT_DSN_SENT] = tell_notice,
    };
    struct writing to = {.event = event, .put = put, .arg = arg};
    buf_init(&to.line, LINE_MAX_BYTES);
    if (tellers[event->type])
        tellers[event->type](&to);
    else if (event_severity(event->type) >= EVENT_WARN)
        tell_warning(&to);
    buf_done(&to.line);
}

struct str log_postfix_time(int64_t wall_ns, char out[LOG_POSTFIX_TIME_SIZE])
{
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t seconds = (time_t)(wall_ns / NS_PER_S);
    struct tm local = {0};
    localtime_r(&seconds, &local);
    int length = snprintf(out, LOG_POSTFIX_TIME_SIZE, "%s %2u %02u:%02u:%02u",
                          months[(unsigned)local.tm_mon % 12], (unsigned)local.tm_mday % 32,
                          (unsigned)local.tm_hour % 24, (unsigned)local.tm_min % 60,
                          (unsigned)local.tm_sec % 61);
    return str_of(out, (size_t)length);
}
