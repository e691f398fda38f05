/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-events FOLDER MESSAGES [SAMPLE]: fill a history with stories of messages, one in ten
 * refused, then ask for some of them by id and by recipient. Prints the cost of a message in CPU
 * time of log's and store's side, bytes a message, and how long answers take. SAMPLE is a file that
 * gets a line for each of them - id, recipient, client, ref - for who asks by other ways.
 */
#include "history/store.h"
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { KEPT = 1000, PIECE = 200, REFUSED_ONE_IN = 10 };

struct kept {
    struct mail_id id;
    char to[64];
    char client[32];
    struct mail_ref ref; /* empty: accepted */
};
static struct kept kept[KEPT];

static void give(const struct event *event, void *arg)
{
    store_put(arg, event, STR("r1"));
}

static int64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* Three words of many and a number: one that is asked for stands in few. */
static struct str subject_of(long number, char out[80])
{
    static const char *const words[] = {
        "Invoice",    "Order",   "Meeting",  "Lunch",   "Report", "Offer",    "Contract",
        "Delivery",   "Payment", "Reminder", "Minutes", "Agenda", "Update",   "Question",
        "Answer",     "Request", "Photos",   "Holiday", "Travel", "Training", "Project",
        "Budget",     "Review",  "Release",  "Support", "Ticket", "Account",  "Statement",
        "Newsletter", "Welcome", "Survey",   "Notice",
    };
    enum { WORDS = sizeof words / sizeof *words };
    uint64_t mixed = (uint64_t)number * UINT64_C(0x9e3779b97f4a7c15);
    snprintf(out, 80, "%s %s %s %ld", words[mixed >> 40 & (WORDS - 1)],
             words[mixed >> 45 & (WORDS - 1)], words[mixed >> 50 & (WORDS - 1)], number);
    return str_c(out);
}

/* What the gateway says of a message of one recipient, a lookup and a delivery. */
static void say(struct mail_id id, const char *to, const char *client, long number)
{
    char subject[80];
    struct mail_id_text session = mail_id_text(mail_id_new());
    struct mail_id_text message = mail_id_text(id);
    struct mail_id_text entry = mail_id_text(mail_id_new());
    struct event_field context[] = {F_C(SESSION, session.chars), F_C(LISTENER, "inbound"),
                                    F_C(CLIENT, client), F_C(MESSAGE, message.chars)};
    event_emit(EVENT_SESSION_OPEN, context[0], context[1], context[2], F_INT(CLIENT_PORT, 40001));
    event_emit(EVENT_SESSION_TLS, context[0], context[1], context[2], F_C(TLS, "TLSv1.3"),
               F_C(CIPHER, "TLS_AES_256_GCM_SHA384"), F_INT(DURATION_US, 2100));
    for (int step = 0; step < 2; step++)
        event_emit(EVENT_FLOW_STEP, context[0], context[1], context[2], context[3],
                   F_C(FLOW_TYPE, "recipient"), F_C(FLOW, "local-users"),
                   F_C(STEP, step ? "2-lookup-smtp" : "1-accept"), F_C(BLOCK, "lookup-smtp"),
                   F_C(OUTCOME, "found"), F_C(ACTION, "accept"), F_INT(DURATION_US, 417),
                   F_BOOL(OBSERVED, false), F_C(RCPT, to));
    event_emit(EVENT_RECIPIENT_ACCEPT, context[0], context[1], context[2], context[3], F_C(TO, to),
               F_C(DOMAIN, "example.org"));
    event_emit(EVENT_MESSAGE_ACCEPTED, context[0], context[1], context[2], context[3],
               F_C(FROM, "somebody@sender.example"), F_INT(RECIPIENTS, 1), F_INT(SIZE, 20480),
               F_C(MESSAGE_ID, message.chars), F_STR(SUBJECT, subject_of(number, subject)));
    event_emit(EVENT_DELIVERY_SENT, context[3], context[0], F_C(ENTRY, entry.chars),
               F_C(FROM, "somebody@sender.example"), F_C(TO, to), F_C(TRANSPORT, "to-mail"),
               F_C(DESTINATION, "mail"), F_C(MX, "mail.example.org"), F_C(IP, "192.0.2.25"),
               F_C(TLS, "TLSv1.3"), F_INT(ATTEMPT, 1), F_INT(CODE, 250), F_C(ENHANCED, "2.0.0"),
               F_C(REPLY, "Ok: queued as 4F1A2B3C4D"), F_INT(QUEUE_US, 180), F_INT(CONNECT_US, 900),
               F_INT(TRANSFER_US, 1500));
    event_emit(EVENT_MESSAGE_DONE, context[3], F_C(ENTRY, entry.chars));
    event_emit(EVENT_SESSION_CLOSE, context[0], context[1], context[2], F_C(WHY, "quit"));
}

/* A stranger's recipient that does not exist. */
static void say_refused(struct mail_id id, const char *to, const char *client, const char *ref)
{
    struct mail_id_text session = mail_id_text(mail_id_new());
    struct mail_id_text message = mail_id_text(id);
    struct event_field context[] = {F_C(SESSION, session.chars), F_C(LISTENER, "inbound"),
                                    F_C(CLIENT, client), F_C(MESSAGE, message.chars)};
    event_emit(EVENT_SESSION_OPEN, context[0], context[1], context[2], F_INT(CLIENT_PORT, 40001));
    event_emit(EVENT_FLOW_STEP, context[0], context[1], context[2], context[3],
               F_C(FLOW_TYPE, "recipient"), F_C(FLOW, "local-users"), F_C(STEP, "2-lookup-smtp"),
               F_C(BLOCK, "lookup-smtp"), F_C(OUTCOME, "missing"), F_C(ACTION, "reject"),
               F_INT(DURATION_US, 417), F_BOOL(OBSERVED, false), F_C(RCPT, to));
    event_emit(EVENT_RECIPIENT_REJECT, context[0], context[1], context[2], context[3],
               F_C(FROM, "spam@sender.example"), F_C(TO, to), F_C(DOMAIN, "example.org"),
               F_C(FLOW, "local-users"), F_C(STEP, "2-lookup-smtp"),
               F_C(REASON, "recipient_unknown"), F_INT(CODE, 550),
               F_C(REPLY, "550 5.1.1 User unknown"), F_C(REF, ref));
    event_emit(EVENT_SESSION_CLOSE, context[0], context[1], context[2], F_C(WHY, "quit"));
}

static void wait_until_written(struct store *store)
{
    struct store_reader *reader;
    struct error err;
    if (store_reader_open(store, &reader, &err) == OK)
        store_reader_close(reader);
}

static void fill(struct store *store, long count)
{
    for (long i = 0; i < count; i++) {
        char to[64];
        char client[32];
        struct mail_id id = mail_id_new();
        snprintf(to, sizeof to, "user%ld@example.org", i % 1000003);
        struct mail_ref ref = {0};
        snprintf(client, sizeof client, "198.51.%ld.%ld", i / 256 % 256, i % 256);
        if (i % REFUSED_ONE_IN == REFUSED_ONE_IN - 1)
            ref = mail_ref_new();
        if (ref.chars[0])
            say_refused(id, to, client, ref.chars);
        else
            say(id, to, client, i);
        if (i % (count / KEPT + 1) == 0) {
            struct kept *one = &kept[i / (count / KEPT + 1)];
            *one = (struct kept){.id = id, .ref = ref};
            snprintf(one->to, sizeof one->to, "%s", to);
            snprintf(one->client, sizeof one->client, "%s", client);
        }
        if (i % PIECE == PIECE - 1)
            event_drain(give, store);
        if (i % 5000 == 4999)
            wait_until_written(store); /* or the generator outruns it */
    }
    event_drain(give, store);
    wait_until_written(store);
}

static void count_event(const struct event *event, struct str revision, void *arg)
{
    (void)event;
    (void)revision;
    ++*(long *)arg;
}

struct look {
    struct store_reader *reader;
    long events;
};

static bool look_at(struct mail_id id, void *arg)
{
    struct look *look = arg;
    store_story(look->reader, id, count_event, &look->events);
    return true;
}

static int ascending(const void *a, const void *b)
{
    int64_t one = *(const int64_t *)a;
    int64_t two = *(const int64_t *)b;
    return (one > two) - (one < two);
}

static void ask(struct store *store, bool by_recipient)
{
    static int64_t times[KEPT];
    size_t count = 0;
    long missing = 0;
    for (size_t i = 0; i < KEPT && kept[i].to[0]; i++) {
        struct look look = {0};
        struct error err;
        int64_t start_ns = clock_monotonic_ns();
        if (store_reader_open(store, &look.reader, &err) != OK)
            continue;
        if (by_recipient)
            store_find(look.reader, store_word(KEY_TO, str_c(kept[i].to)),
                       (struct store_range){0, INT64_C(1) << 47}, look_at, &look);
        else
            look_at(kept[i].id, &look);
        store_reader_close(look.reader);
        times[count++] = clock_monotonic_ns() - start_ns;
        missing += look.events == 0;
    }
    qsort(times, count, sizeof *times, ascending);
    if (count)
        printf("%-14s p50 %.2f ms, p95 %.2f ms, max %.2f ms of %zu, %ld not found\n",
               by_recipient ? "by recipient" : "by id", (double)times[count / 2] / 1e6,
               (double)times[count * 95 / 100] / 1e6, (double)times[count - 1] / 1e6, count,
               missing);
}

static bool write_sample(const char *path)
{
    FILE *file = fopen(path, "w");
    if (!file)
        return false;
    for (size_t i = 0; i < KEPT && kept[i].to[0]; i++)
        fprintf(file, "%s\t%s\t%s\t%s\n", mail_id_text(kept[i].id).chars, kept[i].to,
                kept[i].client, kept[i].ref.chars);
    return fclose(file) == 0;
}

static void emit_only(const struct event *event, void *arg)
{
    (void)event;
    (void)arg;
}

/* CPU of making and draining the events alone, to be taken off. */
static double generator_us(void)
{
    enum { ROUNDS = 20000 };
    int64_t start_ns = cpu_ns();
    for (int i = 0; i < ROUNDS; i++) {
        say(mail_id_new(), "user1234@example.org", "198.51.100.1", i);
        if (i % PIECE == PIECE - 1)
            event_drain(emit_only, NULL);
    }
    event_drain(emit_only, NULL);
    return (double)(cpu_ns() - start_ns) / 1e3 / ROUNDS;
}

int main(int argc, char **argv)
{
    struct store *store;
    struct error err;
    long count = argc > 2 ? atol(argv[2]) : 0;
    if (count < 1) {
        fprintf(stderr, "usage: bench-events FOLDER MESSAGES [SAMPLE]\n");
        return 2;
    }
    struct store_settings settings = {
        .folder = str_c(argv[1]), .keep_ns = 90 * 86400 * NS_PER_S, .size = UINT64_C(1) << 40};
    if (store_open(&settings, &store, &err) != OK) {
        fprintf(stderr, "bench-events: %s\n", err.text);
        return 1;
    }
    double generator = generator_us();
    int64_t start_cpu_ns = cpu_ns();
    int64_t start_ns = clock_monotonic_ns();
    fill(store, count);
    double cpu = (double)(cpu_ns() - start_cpu_ns) / 1e3 / (double)count;
    double seconds = (double)(clock_monotonic_ns() - start_ns) / 1e9;
    sleep(2); /* a turn of tending */
    struct store_totals totals = store_totals(store);
    printf("%ld messages in %.1f s; %.1f us of CPU a message in the store (events themselves %.1f "
           "us); %.0f bytes a message; %llu events written, %llu dropped\n",
           count, seconds, cpu - generator, generator, (double)totals.bytes / (double)count,
           (unsigned long long)totals.events, (unsigned long long)totals.dropped);
    ask(store, false);
    ask(store, true);
    store_close(store);
    if (argc > 3 && !write_sample(argv[3])) {
        perror(argv[3]);
        return 1;
    }
    return 0;
}
