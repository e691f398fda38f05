/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/bench-scan.c - the two ends of clamd's INSTREAM: a scanner of known service time, and
 * clients that ask a scanner as fast as it answers.
 *
 *   bench-scan serve PORT SLOTS MS             SLOTS messages at a time, each takes MS
 *   bench-scan ask ADDRESS CLIENTS COUNT SIZE  ADDRESS: PORT or /socket; prints the rate
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int take(int fd, char *out, size_t size)
{
    for (size_t got = 0; got < size;) {
        ssize_t n = read(fd, out + got, size - got);
        if (n <= 0)
            return -1;
        got += (size_t)n;
    }
    return 0;
}

/* ---- the scanner ---- */

static sem_t slots;
static long service_ms;

static void *serve_one(void *arg)
{
    int fd = (int)(long)arg;
    char command[10], piece[65536];
    uint32_t length;
    int good = take(fd, command, sizeof command) == 0;
    while (good && (good = take(fd, (char *)&length, 4) == 0) && length != 0) {
        size_t left = ntohl(length);
        while (good && left) {
            size_t part = left < sizeof piece ? left : sizeof piece;
            good = take(fd, piece, part) == 0;
            left -= part;
        }
    }
    if (good) {
        struct timespec time = {.tv_sec = service_ms / 1000,
                                .tv_nsec = service_ms % 1000 * 1000000};
        sem_wait(&slots);
        nanosleep(&time, NULL);
        sem_post(&slots);
        if (write(fd, "stream: OK", 11) != 11)
            perror("write");
    }
    close(fd);
    return NULL;
}

static void serve(int port, unsigned count)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 1024))
        die("listen");
    sem_init(&slots, 0, count);
    for (;;) {
        pthread_t thread;
        int client = accept(fd, NULL, NULL);
        if (client >= 0 && pthread_create(&thread, NULL, serve_one, (void *)(long)client) == 0)
            pthread_detach(thread);
    }
}

/* ---- the clients ---- */

enum { PIECE = 64 * 1024 };

static const char *target;
static atomic_long left_to_ask, answered;
static char *message;
static size_t message_size;

static int connect_to(void)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr_in remote = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(target))};
    remote.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int is_path = target[0] == '/';
    snprintf(local.sun_path, sizeof local.sun_path, "%s", target);
    int fd = socket(is_path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, is_path ? (void *)&local : (void *)&remote,
                is_path ? sizeof local : sizeof remote))
        die("connect");
    return fd;
}

static void put(int fd, const void *data, size_t size)
{
    for (size_t sent = 0; sent < size;) {
        ssize_t n = write(fd, (const char *)data + sent, size - sent);
        if (n <= 0)
            die("write");
        sent += (size_t)n;
    }
}

static void *ask(void *arg)
{
    while (atomic_fetch_sub(&left_to_ask, 1) > 0) {
        char answer[256];
        uint32_t end = 0;
        int fd = connect_to();
        put(fd, "zINSTREAM", 10);
        for (size_t at = 0; at < message_size; at += PIECE) {
            size_t size = message_size - at < PIECE ? message_size - at : PIECE;
            uint32_t length = htonl((uint32_t)size);
            put(fd, &length, 4);
            put(fd, message + at, size);
        }
        put(fd, &end, 4);
        ssize_t got = read(fd, answer, sizeof answer - 1);
        if (got > 9 && memcmp(answer, "stream: OK", 10) == 0)
            atomic_fetch_add(&answered, 1);
        close(fd);
    }
    return arg;
}

/* As the source's: a scanner that knows mail takes it apart, and that is most of its work. */
static void make_message(size_t size)
{
    static const char head[] =
        "Received: from source.test (localhost [127.0.0.1]) by gateway.test with ESMTP id 1; Fri, "
        "27 "
        "Nov 2026 10:00:00 +0000\r\nFrom: Bench <sender@source.test>\r\nTo: <u0@sink.test>\r\n"
        "Subject: bench 1\r\nDate: Fri, 27 Nov 2026 10:00:00 +0000\r\nMessage-ID: "
        "<1@source.test>\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n";
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned long long random = 88172645463325252ULL;
    message = malloc(size + sizeof head + 2);
    memcpy(message, head, sizeof head - 1);
    for (message_size = sizeof head - 1; message_size < size;) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        message[message_size++] = letters[random & 63];
        if (message_size % 78 == 0 && message_size + 2 <= size) {
            message[message_size++] = '\r';
            message[message_size++] = '\n';
        }
    }
}

static int ask_all(int clients, long count, size_t size)
{
    pthread_t threads[1000];
    make_message(size);
    atomic_store(&left_to_ask, count);
    double start = now();
    for (int i = 0; i < clients; i++)
        pthread_create(&threads[i], NULL, ask, NULL);
    for (int i = 0; i < clients; i++)
        pthread_join(threads[i], NULL);
    printf("%.1f\n", (double)count / (now() - start));
    return atomic_load(&answered) == count ? 0 : 1;
}

int main(int count, char **arguments)
{
    if (count == 5 && strcmp(arguments[1], "serve") == 0) {
        service_ms = atol(arguments[4]);
        serve(atoi(arguments[2]), (unsigned)atoi(arguments[3]));
    }
    if (count == 6 && strcmp(arguments[1], "ask") == 0 && atoi(arguments[3]) <= 1000) {
        target = arguments[2];
        return ask_all(atoi(arguments[3]), atol(arguments[4]), (size_t)atol(arguments[5]));
    }
    fprintf(stderr, "usage: bench-scan serve PORT SLOTS MS | ask ADDRESS CLIENTS COUNT SIZE\n");
    return 2;
}
