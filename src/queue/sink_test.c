/* SPDX-License-Identifier: Apache-2.0 */
/* The mail server on loopback: a thread a connection, blocking, as simple as can be. */
#include "queue/queue_test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { KEPT = 64, CONNECTIONS = 256, DATA_MAX = 256 * 1024 };

struct kept {
    char recipient[128];
    char *data;
};

struct sink {
    pthread_mutex_t mutex;
    int fd;
    uint16_t port;
    pthread_t thread;
    pthread_t sessions[CONNECTIONS];
    int fds[CONNECTIONS];
    unsigned connections, open, most, taken, rcpts, deferrals;
    const char *greeting;
    bool stalled;
    unsigned delay_ms;
    struct kept kept[KEPT];
    size_t kept_count;
};

struct session {
    struct sink *sink;
    int fd;
    FILE *in;
    char recipients[16][128];
    unsigned accepted;
    bool refuse_data;
    bool in_mail; /* counted in sink->open */
    bool lmtp;
};

static void say(const struct session *session, const char *text)
{
    size_t len = strlen(text);
    size_t at = 0;
    while (at < len) {
        ssize_t sent = send(session->fd, text + at, len - at, MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        at += (size_t)sent;
    }
}

static void keep(struct sink *sink, const char *recipient, const char *data)
{
    struct kept *slot = &sink->kept[sink->kept_count++ % KEPT];
    free(slot->data);
    slot->data = strdup(data);
    (void)snprintf(slot->recipient, sizeof slot->recipient, "%s", recipient);
}

static void rcpt(struct session *session, const char *line)
{
    struct sink *sink = session->sink;
    const char *begin = strchr(line, '<');
    char address[128] = "";
    if (begin != NULL)
        (void)sscanf(begin + 1, "%127[^>]", address);
    pthread_mutex_lock(&sink->mutex);
    sink->rcpts++;
    bool later = strncmp(address, "later", 5) == 0 && sink->deferrals > 0;
    if (later)
        sink->deferrals--;
    pthread_mutex_unlock(&sink->mutex);
    if (later) {
        say(session, "451 4.7.1 Come back later\r\n");
    } else if (strncmp(address, "never", 5) == 0) {
        say(session, "550 5.1.1 No such user here\r\n");
    } else {
        session->refuse_data |= strncmp(address, "data", 4) == 0;
        if (session->accepted < 16)
            memcpy(session->recipients[session->accepted++], address, sizeof address);
        say(session, "250 2.1.5 Ok\r\n");
    }
}

static void set_in_mail(struct session *session, bool in_mail);

static bool is_stalled(struct sink *sink)
{
    pthread_mutex_lock(&sink->mutex);
    bool stalled = sink->stalled;
    pthread_mutex_unlock(&sink->mutex);
    return stalled;
}

static bool data(struct session *session)
{
    struct sink *sink = session->sink;
    char line[4096] = "";
    char *text = malloc(DATA_MAX);
    check(text != NULL);
    size_t len = 0;
    say(session, "354 Go ahead\r\n");
    while (is_stalled(sink))
        usleep(1000);
    while (fgets(line, sizeof line, session->in) != NULL && strcmp(line, ".\r\n") != 0) {
        const char *from = line[0] == '.' ? line + 1 : line;
        size_t size = strlen(from);
        if (len + size < DATA_MAX - 1) {
            memcpy(text + len, from, size);
            len += size;
        }
    }
    text[len] = 0;
    pthread_mutex_lock(&sink->mutex);
    unsigned delay_ms = sink->delay_ms;
    pthread_mutex_unlock(&sink->mutex);
    usleep(delay_ms * 1000);
    bool whole = strcmp(line, ".\r\n") == 0;
    pthread_mutex_lock(&sink->mutex);
    for (unsigned i = 0; whole && !session->refuse_data && i < session->accepted; i++)
        keep(sink, session->recipients[i], text);
    sink->taken += whole && !session->refuse_data;
    pthread_mutex_unlock(&sink->mutex);
    free(text);
    set_in_mail(session, false);
    for (unsigned i = 0; whole && i < (session->lmtp ? session->accepted : 1); i++)
        say(session, session->refuse_data ? "554 5.7.1 Not this\r\n" : "250 2.0.0 Taken\r\n");
    return whole;
}

/* A transaction begins or is over; how many there are at once is what the tests look at. */
static void set_in_mail(struct session *session, bool in_mail)
{
    struct sink *sink = session->sink;
    pthread_mutex_lock(&sink->mutex);
    if (session->in_mail != in_mail)
        sink->open += in_mail ? 1 : -1u;
    session->in_mail = in_mail;
    if (sink->open > sink->most)
        sink->most = sink->open;
    pthread_mutex_unlock(&sink->mutex);
}

static void reset(struct session *session)
{
    session->accepted = 0;
    session->refuse_data = false;
    set_in_mail(session, false);
}

static bool command(struct session *session, const char *line)
{
    if (strncasecmp(line, "EHLO", 4) == 0 || strncasecmp(line, "LHLO", 4) == 0) {
        session->lmtp = line[0] == 'L';
        say(session, "250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 1000000\r\n");
    } else if (strncasecmp(line, "MAIL", 4) == 0) {
        reset(session);
        set_in_mail(session, true);
        say(session, "250 2.1.0 Ok\r\n");
    } else if (strncasecmp(line, "RCPT", 4) == 0) {
        rcpt(session, line);
    } else if (strncasecmp(line, "DATA", 4) == 0) {
        if (session->accepted == 0)
            say(session, "503 5.5.1 No recipients\r\n");
        else if (!data(session))
            return false;
    } else if (strncasecmp(line, "RSET", 4) == 0) {
        reset(session);
        say(session, "250 2.0.0 Ok\r\n");
    } else if (strncasecmp(line, "QUIT", 4) == 0) {
        say(session, "221 2.0.0 Bye\r\n");
        return false;
    } else {
        say(session, "500 5.5.2 What?\r\n");
    }
    return true;
}

static void *run_session(void *arg)
{
    struct session *session = arg;
    struct sink *sink = session->sink;
    char line[4096];
    char greeting[256];
    session->in = fdopen(dup(session->fd), "r");
    pthread_mutex_lock(&sink->mutex);
    (void)snprintf(greeting, sizeof greeting, "%s\r\n",
                   sink->greeting != NULL ? sink->greeting : "220 sink.example ESMTP");
    pthread_mutex_unlock(&sink->mutex);
    say(session, greeting);
    while (greeting[0] == '2' && fgets(line, sizeof line, session->in) != NULL)
        if (!command(session, line))
            break;
    (void)fclose(session->in);
    set_in_mail(session, false);
    shutdown(session->fd, SHUT_RDWR);
    free(session);
    return NULL;
}

static void *run_sink(void *arg)
{
    struct sink *sink = arg;
    for (;;) {
        int fd = accept(sink->fd, NULL, NULL);
        if (fd < 0)
            return NULL;
        int on = 1;
        struct session *session = NEW(struct session);
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        session->sink = sink;
        session->fd = fd;
        pthread_mutex_lock(&sink->mutex);
        unsigned at = sink->connections++;
        check(at < CONNECTIONS);
        sink->fds[at] = fd;
        pthread_create(&sink->sessions[at], NULL, run_session, session);
        pthread_mutex_unlock(&sink->mutex);
    }
}

struct sink *sink_new(void)
{
    struct sink *sink = NEW(struct sink);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    pthread_mutex_init(&sink->mutex, NULL);
    sink->fd = socket(AF_INET, SOCK_STREAM, 0);
    check(bind(sink->fd, (struct sockaddr *)&address, sizeof address) == 0);
    check(listen(sink->fd, 128) == 0);
    check(getsockname(sink->fd, (struct sockaddr *)&address, &len) == 0);
    sink->port = ntohs(address.sin_port);
    pthread_create(&sink->thread, NULL, run_sink, sink);
    return sink;
}

void sink_free(struct sink *sink)
{
    sink_set_stalled(sink, false);
    shutdown(sink->fd, SHUT_RDWR);
    pthread_join(sink->thread, NULL);
    close(sink->fd);
    for (unsigned i = 0; i < sink->connections; i++) {
        shutdown(sink->fds[i], SHUT_RDWR);
        pthread_join(sink->sessions[i], NULL);
        close(sink->fds[i]);
    }
    for (size_t i = 0; i < KEPT; i++)
        free(sink->kept[i].data);
    pthread_mutex_destroy(&sink->mutex);
    free(sink);
}

uint16_t sink_port(const struct sink *sink)
{
    return sink->port;
}

void sink_set_deferrals(struct sink *sink, unsigned deferrals)
{
    pthread_mutex_lock(&sink->mutex);
    sink->deferrals = deferrals;
    pthread_mutex_unlock(&sink->mutex);
}

void sink_set_greeting(struct sink *sink, const char *greeting)
{
    pthread_mutex_lock(&sink->mutex);
    sink->greeting = greeting;
    pthread_mutex_unlock(&sink->mutex);
}

void sink_set_stalled(struct sink *sink, bool stalled)
{
    pthread_mutex_lock(&sink->mutex);
    sink->stalled = stalled;
    pthread_mutex_unlock(&sink->mutex);
}

void sink_set_delay(struct sink *sink, unsigned milliseconds)
{
    pthread_mutex_lock(&sink->mutex);
    sink->delay_ms = milliseconds;
    pthread_mutex_unlock(&sink->mutex);
}

static unsigned get(struct sink *sink, const unsigned *number)
{
    pthread_mutex_lock(&sink->mutex);
    unsigned value = *number;
    pthread_mutex_unlock(&sink->mutex);
    return value;
}

unsigned sink_taken(struct sink *sink)
{
    return get(sink, &sink->taken);
}

unsigned sink_connections(struct sink *sink)
{
    return get(sink, &sink->connections);
}

unsigned sink_rcpts(struct sink *sink)
{
    return get(sink, &sink->rcpts);
}

unsigned sink_most_at_once(struct sink *sink)
{
    return get(sink, &sink->most);
}

char *sink_message_for(struct sink *sink, const char *recipient)
{
    char *copy = NULL;
    pthread_mutex_lock(&sink->mutex);
    for (size_t i = 0; i < KEPT; i++)
        if (sink->kept[i].data != NULL && strcmp(sink->kept[i].recipient, recipient) == 0) {
            free(copy);
            copy = strdup(sink->kept[i].data);
        }
    pthread_mutex_unlock(&sink->mutex);
    return copy;
}
