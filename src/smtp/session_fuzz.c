/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/session_fuzz.c - any bytes as a client of the whole server.
 *
 * The first byte chooses settings. The rest is sent as it is, but byte 0xFE stands for a pause in
 * which the server may answer. Whatever comes, the session must end when the client goes, replies
 * must be lines, and a message that was taken must be clean.
 */
#include "base/check.h"
#include "base/memory.h"
#include "fiber/test.h"
#include "smtp/server_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct client {
    struct rig *rig;
    struct str input;
};

static MAY_YIELD void read_replies(struct stream *stream)
{
    struct error err;
    for (int i = 0; i < 4; i++)
        fiber_yield();
    (void)!stream_fill_available(stream, 1 << 20, &err);
    struct str input = stream_buffered(stream);
    struct str rest = input;
    struct str line;
    while (rest.len && str_find(rest, '\n') >= 0) {
        check(str_split(&rest, '\n', &line));
        check(line.len >= 5 && line.len <= 511 && line.ptr[line.len - 1] == '\r');
        check(line.ptr[0] >= '2' && line.ptr[0] <= '5');
        check(ascii_is_digit(line.ptr[1]) && ascii_is_digit(line.ptr[2]));
        check(line.ptr[3] == ' ' || line.ptr[3] == '-');
    }
    stream_consume(stream, input.len - rest.len);
}

static MAY_YIELD void talk(void *arg)
{
    struct client *client = arg;
    struct error err;
    struct str part;
    fiber_yield();
    while (str_split(&client->input, '\xfe', &part)) {
        (void)!stream_write(client->rig->client, part, &err);
        (void)!stream_flush(client->rig->client, &err);
        read_replies(client->rig->client);
    }
    stream_close(take(client->rig->client));
}

static void check_message(const struct rig *rig)
{
    struct str text = buf_str(&rig->message);
    check(!str_has_nul(text));
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '\n')
            check(i > 0 && text.ptr[i - 1] == '\r');
        if (text.ptr[i] == '\r')
            check(i + 1 < text.len && text.ptr[i + 1] == '\n');
    }
    check(text.len == 0 || str_ends(text, STR("\r\n")));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct net_network everybody = {.ip = {.family = 4}};
    struct rig rig;
    struct test_loop test;
    if (size == 0)
        return 0;
    rig_init(&rig);
    rig.settings.limits.size = 2000;
    rig.settings.limits.recipients = 3;
    if (data[0] & 1) {
        rig.settings.trusted = &everybody;
        rig.settings.trusted_count = 1;
    }
    if (data[0] & 2) {
        rig.settings.xclient_from = &everybody;
        rig.settings.xclient_from_count = 1;
    }
    if (data[0] & 4) {
        rig.settings.proxy_from = &everybody;
        rig.settings.proxy_from_count = 1;
    }
    if (data[0] & 8)
        rig.settings.authentication_required = true;
    if (data[0] & 16)
        rig.settings.tls = SMTP_TLS_REQUIRED;
    struct client client = {&rig, str_of((const char *)data + 1, size - 1)};
    clock_set_fake(NS_PER_S, NS_PER_S);
    test_loop_open(&test, NULL);
    test_loop_spawn(&test, rig_serve, &rig);
    test_loop_spawn(&test, talk, &client);
    test_loop_run(&test);
    test_loop_close(&test);
    check(rig.done);
    check_message(&rig);
    rig_done(&rig);
    return 0;
}
