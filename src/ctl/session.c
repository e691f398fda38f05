/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/session.c - `postern session`: SMTP typed by hand, answered by the compiled configuration.
 *
 * A child process serves the conversation over a connection on the loopback interface; this one
 * carries lines between it and the terminal.
 */
#include "base/buf.h"
#include "ctl/ctl.h"
#include "ctl/flow_test_given.h"
#include "gateway/rehearsal_session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REPORT_MAX = 1024 * 1024, LINES_MAX = 64 * 1024, PIECE = 16 * 1024 };

struct setup {
    const char *path, *client, *listener, *given;
    struct settings *settings;
    struct flow_test_answers stated;
    struct rehearsal_session session;
};

/* ---- what is told beside the replies ---- */

static void tell(void *context, const struct rehearsal *decision, const char *what)
{
    struct ctl *ctl = context;
    const char *verdict = decision->content_action[0] ? decision->content_action
                          : decision->recipient[0]    ? decision->recipient
                                                      : decision->auth;
    struct str step = decision->content_action[0] ? decision->content_step : decision->step;
    printf("   -- %s: %s", what, verdict);
    if (step.len)
        printf(", by step %.*s", STR_ARG(step));
    if (decision->domain.len)
        printf(", domain %.*s", STR_ARG(decision->domain));
    if (decision->transport.len)
        printf(", transport %.*s", STR_ARG(decision->transport));
    if (decision->detail.len) {
        printf(" (");
        ctl_print_text(arena_c(ctl->arena, decision->detail));
        printf(")");
    }
    printf("\n");
    fflush(stdout);
}

/* ---- two ends of a connection ---- */

/* A connected pair on 127.0.0.1: the server asks its peer's address, which socketpair() lacks. */
static bool connect_pair(int out_fds[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    out_fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    out_fds[1] = -1;
    if (listening >= 0 && out_fds[0] >= 0 &&
        bind(listening, (const struct sockaddr *)&address, sizeof address) == 0 &&
        listen(listening, 1) == 0 &&
        getsockname(listening, (struct sockaddr *)&address, &len) == 0 &&
        connect(out_fds[0], (const struct sockaddr *)&address, sizeof address) == 0)
        out_fds[1] = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (listening >= 0)
        close(listening);
    if (out_fds[1] < 0)
        fprintf(stderr, "postern: cannot connect to myself: %s\n", strerror(errno));
    return out_fds[1] >= 0;
}

static bool write_all(int fd, struct str text)
{
    while (text.len) {
        ssize_t written = send(fd, text.ptr, text.len, MSG_NOSIGNAL);
        if (written <= 0)
            return false;
        text = str_from(text, (size_t)written);
    }
    return true;
}

/* Who the client is, said as a front end does (PROXY protocol, version 1). */
static bool introduce(struct ctl *ctl, int fd, const struct net_ip *client)
{
    char text[NET_IP_TEXT];
    struct str ip = net_ip_format(client, text);
    bool six = str_find(ip, ':') >= 0;
    return write_all(fd, arena_printf(ctl->arena, "PROXY TCP%d %.*s %s 40000 25\r\n", six ? 6 : 4,
                                      STR_ARG(ip), six ? "::1" : "127.0.0.1"));
}

/* ---- lines ---- */

/* Whose turn it is: a command waits for the reply to the one before, the text of DATA does not. */
struct turns {
    int fd;
    struct buf input;
    bool input_ended;
    bool awaiting; /* a reply */
    bool in_data;
    char reply[4]; /* the beginning of the line that comes from the server */
    size_t reply_len;
};

static void watch_reply(struct turns *turns, struct str data)
{
    for (size_t i = 0; i < data.len; i++) {
        if (data.ptr[i] == '\n') {
            bool final = turns->reply_len == sizeof turns->reply && turns->reply[3] == ' ';
            turns->awaiting = turns->awaiting && !final;
            turns->in_data = turns->in_data || (final && memcmp(turns->reply, "354", 3) == 0);
            turns->reply_len = 0;
        } else if (turns->reply_len < sizeof turns->reply) {
            turns->reply[turns->reply_len++] = data.ptr[i];
        }
    }
}

static bool pass_line(struct turns *turns, struct str line)
{
    if (!turns->in_data && str_equal_nocase(line, STR("STARTTLS"))) {
        printf("   -- TLS cannot be typed: start again with --tls\n");
        fflush(stdout);
        return true;
    }
    turns->awaiting = !turns->in_data;
    if (turns->in_data && str_equal(line, STR("."))) {
        turns->in_data = false;
        turns->awaiting = true;
    }
    return write_all(turns->fd, line) && write_all(turns->fd, STR("\r\n"));
}

/* Whole lines go on with CRLF, whatever the terminal ends them with. False: the server is gone. */
static bool pass_lines(struct turns *turns)
{
    struct str rest = buf_str(&turns->input);
    ptrdiff_t end;
    bool good = true;
    while (good && !turns->awaiting && (end = str_find(rest, '\n')) >= 0) {
        struct str line = str_slice(rest, 0, (size_t)end);
        rest = str_from(rest, (size_t)end + 1);
        if (line.len && line.ptr[line.len - 1] == '\r')
            line.len--;
        good = pass_line(turns, line);
    }
    buf_consume(&turns->input, turns->input.len - rest.len);
    if (turns->input_ended && turns->input.len == 0)
        shutdown(turns->fd, SHUT_WR);
    return good;
}

static void take_input(struct turns *turns)
{
    char *space = buf_reserve(&turns->input, PIECE);
    ssize_t got = space ? read(STDIN_FILENO, space, PIECE) : 0;
    if (got > 0) {
        turns->input.len += (size_t)got;
        return;
    }
    turns->input_ended = true;
    if (turns->input.len && turns->input.ptr[turns->input.len - 1] != '\n')
        buf_append_byte(&turns->input, '\n');
}

static void carry(int fd)
{
    struct turns turns = {.fd = fd, .awaiting = true};
    char space[PIECE];
    buf_init(&turns.input, LINES_MAX);
    for (;;) {
        bool hungry = !turns.input_ended && turns.input.len < LINES_MAX - PIECE;
        struct pollfd polled[2] = {{.fd = fd, .events = POLLIN},
                                   {.fd = hungry ? STDIN_FILENO : -1, .events = POLLIN}};
        if (poll(polled, 2, -1) < 0 && errno != EINTR)
            break;
        if (polled[0].revents) {
            ssize_t got = read(fd, space, sizeof space);
            if (got <= 0)
                break;
            watch_reply(&turns, str_of(space, (size_t)got));
            fwrite(space, 1, (size_t)got, stdout);
            fflush(stdout);
        }
        if (polled[1].revents)
            take_input(&turns);
        if (!pass_lines(&turns))
            break;
    }
    buf_done(&turns.input);
}

/* ---- the command ---- */

static bool print_problems(struct ctl *ctl, const struct config_report *report)
{
    struct buf text BUF_CLEANUP;
    buf_init(&text, REPORT_MAX);
    config_report_print(report, ctl->colour, &text);
    fwrite(buf_str(&text).ptr, 1, text.len, stderr);
    return false;
}

static bool load(struct ctl *ctl, struct setup *setup)
{
    struct config_report report;
    struct error err;
    struct option_context context = {.arena = ctl->arena, .report = &report};
    config_report_init(&report, ctl->arena);
    if (settings_load(setup->path, &report, &setup->settings, &err) != OK)
        return print_problems(ctl, &report);
    config_report_init(&report, ctl->arena);
    if (setup->given &&
        !flow_test_given_file(setup->given, setup->settings, &context, &setup->stated))
        return print_problems(ctl, &report);
    struct rehearsal_session *session = &setup->session;
    session->settings = setup->settings;
    session->listener = setup->listener
                            ? settings_find_listener(setup->settings, str_c(setup->listener))
                            : setup->settings->listeners;
    if (!session->listener || !setup->settings->listener_count) {
        fprintf(stderr, "postern: there is no listener \"%s\"; there are:",
                setup->listener ? setup->listener : "");
        for (size_t i = 0; i < setup->settings->listener_count; i++)
            fprintf(stderr, " %.*s", STR_ARG(setup->settings->listeners[i].name));
        fprintf(stderr, "\n");
        return false;
    }
    if (!net_ip_parse(str_c(setup->client), &session->client)) {
        fprintf(stderr, "postern: \"%s\" is no IP address\n", setup->client);
        return false;
    }
    return true;
}

/* In the child: serve, then end without what belongs to the parent. */
static _Noreturn void serve(struct setup *setup, int fd)
{
    struct error err;
    enum result result = rehearsal_session_run(&setup->session, fd, &err);
    if (result != OK)
        fprintf(stderr, "postern: %s\n", err.text);
    fflush(stdout);
    _exit(result == OK ? CTL_YES : CTL_NO);
}

static int hold(struct ctl *ctl, struct setup *setup)
{
    int fds[2];
    int status = 0;
    if (!connect_pair(fds))
        return CTL_NO;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        close(fds[0]);
        setup->session.directory = directory_stated_new(&setup->stated.directory);
        struct resolver resolver = flow_test_resolver(&setup->stated);
        setup->session.resolver = &resolver;
        setup->session.tell = tell;
        setup->session.context = ctl;
        serve(setup, fds[1]);
    }
    close(fds[1]);
    if (child > 0 && introduce(ctl, fds[0], &setup->session.client))
        carry(fds[0]);
    close(fds[0]);
    if (child > 0)
        waitpid(child, &status, 0);
    return child > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : CTL_NO;
}

int ctl_session(struct ctl *ctl)
{
    struct setup setup = {.client = ctl_option(ctl, "--client"),
                          .listener = ctl_option(ctl, "--listener"),
                          .given = ctl_option(ctl, "--given")};
    setup.session.tls = ctl_flag(ctl, "--tls");
    ctl_arguments(ctl, 0, 1);
    setup.path = ctl->argc ? ctl->argv[0] : ctl_config_path(ctl);
    if (!setup.client)
        setup.client = "192.0.2.1";
    int code = CTL_USAGE;
    if (load(ctl, &setup)) {
        if (!setup.given)
            printf("   -- no backend is asked: state their answers with --given TEST\n");
        code = hold(ctl, &setup);
    }
    settings_unref(setup.settings);
    return code;
}
