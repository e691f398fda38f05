/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/server_script.h"

#include "fiber/test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct player {
    struct rig *rig;
    const struct script *script;
    size_t cut;  /* the client's byte before which it pauses */
    size_t sent; /* bytes of the client so far */
    struct buf segment;
    int64_t now_s;
    bool failed;
    char problem[1024];
};

size_t unescape(const char *text, size_t len, char *out)
{
    size_t at = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] != '\\') {
            out[at++] = text[i];
            continue;
        }
        char c = text[++i];
        if (c == 'x') {
            unsigned value = 0;
            sscanf(text + i + 1, "%2x", &value);
            out[at++] = (char)value;
            i += 2;
        } else
            out[at++] = c == 'r' ? '\r' : c == 'n' ? '\n' : c == 't' ? '\t' : c == '0' ? '\0' : c;
    }
    return at;
}

static void complain(struct player *player, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void complain(struct player *player, const char *format, ...)
{
    va_list args;
    if (player->failed)
        return;
    player->failed = true;
    va_start(args, format);
    vsnprintf(player->problem, sizeof player->problem, format, args);
    va_end(args);
}

static MAY_YIELD void let_server_run(void)
{
    for (int i = 0; i < 4; i++)
        fiber_yield();
}

static MAY_YIELD void send_bytes(struct player *player, struct str bytes)
{
    struct error err;
    if (bytes.len == 0)
        return;
    (void)!stream_write(player->rig->client, bytes, &err);
    (void)!stream_flush(player->rig->client, &err);
    player->sent += bytes.len;
}

static MAY_YIELD void send_segment(struct player *player)
{
    struct str bytes = buf_str(&player->segment);
    if (player->cut > player->sent && player->cut < player->sent + bytes.len) {
        size_t head = player->cut - player->sent;
        send_bytes(player, str_slice(bytes, 0, head));
        let_server_run();
        bytes = str_from(bytes, head);
    }
    send_bytes(player, bytes);
    buf_clear(&player->segment);
}

/* False: the server closed. */
static MAY_YIELD bool read_line(struct player *player, char *line, size_t size)
{
    struct error err;
    bool end = false;
    for (;;) {
        struct str input = stream_buffered(player->rig->client);
        ptrdiff_t lf = str_find(input, '\n');
        if (lf >= 0) {
            if (lf == 0 || input.ptr[lf - 1] != '\r')
                complain(player, "a reply line without CR");
            snprintf(line, size, "%.*s", (int)(lf > 0 ? lf - 1 : 0), input.ptr);
            stream_consume(player->rig->client, (size_t)lf + 1);
            return true;
        }
        if (end || stream_fill(player->rig->client, 65536, &end, &err) == FAILED)
            return false;
    }
}

static MAY_YIELD void expect_line(struct player *player, struct str expected)
{
    char line[1024];
    if (!read_line(player, line, sizeof line)) {
        complain(player, "closed, expected \"%.*s\"", STR_ARG(expected));
        return;
    }
    bool prefix = expected.len && expected.ptr[expected.len - 1] == '*';
    bool fits = prefix ? str_starts(str_c(line), str_slice(expected, 0, expected.len - 1))
                       : str_equal(str_c(line), expected);
    if (!fits)
        complain(player, "got \"%s\", expected \"%.*s\"", line, STR_ARG(expected));
}

static MAY_YIELD void pass_time(struct player *player, int64_t seconds)
{
    let_server_run();
    player->now_s += seconds;
    clock_set_fake(player->now_s * NS_PER_S, 0);
    let_server_run();
}

static MAY_YIELD void play_line(struct player *player, struct str line)
{
    char bytes[8192];
    char rest[1024];
    struct str argument = str_from(line, 3);
    if (line.ptr[0] != 'C' && line.ptr[0] != 'R')
        send_segment(player);
    switch (line.ptr[0]) {
    case 'C':
    case 'R':
        buf_append(&player->segment, str_of(bytes, unescape(argument.ptr, argument.len, bytes)));
        if (line.ptr[0] == 'C')
            buf_append(&player->segment, STR("\r\n"));
        break;
    case 'S':
        expect_line(player, argument);
        break;
    case 'E':
        /* a server that cut us off listens a second longer */
        pass_time(player, 2);
        if (read_line(player, rest, sizeof rest))
            complain(player, "got \"%s\", expected the end", rest);
        break;
    case 'T':
        pass_time(player, strtol(argument.ptr, NULL, 10));
        break;
    case 'D':
        atomic_store(&player->rig->draining, true);
        break;
    default:
        complain(player, "bad script line \"%.*s\"", STR_ARG(line));
    }
}

static MAY_YIELD void play(void *arg)
{
    struct player *player = arg;
    struct str rest = str_c(player->script->text);
    struct str line;
    while (!player->failed && str_split(&rest, '\n', &line))
        if (line.len)
            play_line(player, line);
    send_segment(player);
    /* the server must come to its end when the client goes */
    stream_close(player->rig->client);
    player->rig->client = NULL;
}

static void compare_text(struct player *player, const char *what, const struct buf *got,
                         const char *expected)
{
    char bytes[8192];
    if (!expected)
        return;
    struct str text = {bytes, unescape(expected, strlen(expected), bytes)};
    if (!str_equal(buf_str(got), text))
        complain(player, "%s is \"%.*s\", expected \"%s\"", what, STR_ARG(buf_str(got)), expected);
}

size_t run_script(const struct script *script, size_t cut)
{
    struct rig rig;
    struct test_loop test;
    struct player player = {.rig = &rig, .script = script, .cut = cut, .now_s = 1000};
    clock_set_fake(player.now_s * NS_PER_S, 0);
    rig_init(&rig);
    buf_init(&player.segment, 1 << 20);
    static const struct net_network everybody = {.ip = {.family = 4}};
    if (script->flags & TRUSTED) {
        rig.settings.trusted = &everybody;
        rig.settings.trusted_count = 1;
    }
    if (script->prepare)
        script->prepare(&rig);
    test_loop_open(&test, NULL);
    /* the client first: what a script begins with is there before the greeting */
    test_loop_spawn(&test, play, &player);
    test_loop_spawn(&test, rig_serve, &rig);
    test_loop_run(&test);
    test_loop_close(&test);
    compare_text(&player, "envelope", &rig.envelope, script->envelope);
    compare_text(&player, "message", &rig.message, script->message);
    compare_text(&player, "peer", &rig.facts, script->facts);
    int messages = script->messages >= 0 ? script->messages : script->envelope != NULL;
    if ((int)rig.messages != messages)
        complain(&player, "%u messages, expected %d", rig.messages, messages);
    buf_done(&player.segment);
    rig_done(&rig);
    clock_set_fake(-1, -1);
    if (player.failed)
        fail_msg("%s, cut at %zu: %s", script->name, cut, player.problem);
    return player.sent;
}

void run_scripts(const struct script *scripts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t bytes = run_script(&scripts[i], 0);
        for (size_t cut = 1; cut < bytes && !(scripts[i].flags & NEVER_CUT); cut++)
            run_script(&scripts[i], cut);
    }
}
