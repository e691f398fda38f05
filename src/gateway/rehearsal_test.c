/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/rehearsal_test.c - logins and messages through a configuration, by the listener's rules.
 */
#include "gateway/rehearsal.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/test.h"
#include "directory/stated.h"

#include <stdlib.h>

static const char configuration[] =
    "version: 1\n"
    "hostname: mx.example.org\n"
    "servers: { mail: { smtp: \"127.0.0.1:25\", tls: none } }\n"
    "trusted_networks: [ 198.51.100.0/24 ]\n"
    "listeners:\n"
    "  inbound: { listen: \"127.0.0.1:2525\" }\n"
    "  closed: { listen: \"127.0.0.1:2526\", allow_cleartext_auth: true,\n"
    "            authentication: { flow: staff, required: true } }\n"
    "flows:\n"
    "  authentication: { staff: [ smtp: { server: mail } ] }\n"
    "  content:\n"
    "    careful:\n"
    "      - reject: { when: 'header(\"Subject\") == \"bad\"', reply: \"554 5.6.0 Bad\" }\n"
    "      - hold: { when: 'header(\"Subject\") == \"odd\"' }\n"
    "      - deliver\n"
    "domains:\n"
    "  example.org: { recipients: { preset: local-users, server: mail }, content: careful,\n"
    "                 transport: { server: mail } }\n";

static const struct rehearsal_case {
    const char *listener, *client, *user, *password, *from, *to, *subject;
    const char *auth, *recipient, *action, *reply;
} cases[] = {
    {"inbound", "192.0.2.7", "", "", "a@example.net", "anna@example.org", "good", "", "accept",
     "deliver", "250 2.0.0 Ok"},
    {"inbound", "192.0.2.7", "", "", "a@example.net", "anna@example.org", "bad", "", "accept",
     "reject", "554 5.6.0 Bad"},
    {"inbound", "192.0.2.7", "", "", "", "anna@example.org", "odd", "", "accept", "hold",
     "250 2.0.0 Ok"},
    {"inbound", "192.0.2.7", "", "", "", "bob@example.org", "good", "", "reject", "",
     "550 5.1.1 Recipient address unknown"},
    {"inbound", "198.51.100.7", "", "", "", "bob@example.org", "good", "", "reject", "",
     "550 5.1.1 Recipient address unknown"},
    {"inbound", "192.0.2.7", "", "", "", "bob@example.net", "good", "", "reject", "",
     "550 5.7.1 Relaying denied"},
    {"inbound", "192.0.2.7", "anna", "right", "", "anna@example.org", "good", "refused", "", "",
     "502 5.5.1 Authentication is not offered"},
    {"closed", "192.0.2.7", "", "", "", "anna@example.org", "good", "", "refused", "",
     "530 5.7.0 Authentication required"},
    {"closed", "192.0.2.7", "anna", "wrong", "", "anna@example.org", "good", "reject", "", "",
     "535 5.7.8 Authentication credentials invalid"},
    {"closed", "192.0.2.7", "anna", "right", "", NULL, "good", "accept", "", "",
     "235 2.7.0 Authenticated"},
    {"closed", "192.0.2.7", "anna", "right", "", "bob@example.org", "good", "accept", "accept",
     "deliver", "250 2.0.0 Ok"},
};

static void try_case(const struct rehearsal_case *c, const struct settings *settings,
                     struct directory *directory)
{
    struct arena *arena = arena_new(0);
    struct rehearsal got;
    struct rehearsal_in in = {
        .settings = settings,
        .listener = settings_find_listener(settings, str_c(c->listener)),
        .directory = directory,
        .arena = arena,
        .client_name = STR_EMPTY,
        .helo = STR("client.example"),
        .user = str_c(c->user),
        .password = str_c(c->password),
        .has_mail = c->to != NULL,
        .from = str_c(c->from),
        .to = str_c(c->to ? c->to : ""),
        .text = arena_printf(arena, "Subject: %s\r\n\r\ntext\r\n", c->subject),
    };
    check(net_ip_parse(str_c(c->client), &in.client));
    rehearsal_run(&in, &got);
    assert_string_equal(got.auth, c->auth);
    assert_string_equal(got.recipient, c->recipient);
    assert_string_equal(got.content_action, c->action);
    assert_str(mail_reply_text(arena, &got.reply), c->reply);
    arena_free(arena);
}

static void test_rehearsals(void **unused)
{
    static const struct str recipients[] = {{"anna@example.org", 16}};
    static const struct directory_stated_login logins[] = {{{"anna", 4}, {"right", 5}, NULL, 0}};
    static const struct directory_stated_source sources[] = {{.name = {"mail", 4},
                                                              .recipients = recipients,
                                                              .recipient_count = 1,
                                                              .logins = logins,
                                                              .login_count = 1}};
    static const struct directory_stated stated = {sources, 1};
    struct config_report report;
    struct settings *settings = NULL;
    struct error err;
    struct arena *arena = arena_new(0);
    (void)unused;
    config_report_init(&report, arena);
    if (settings_load_text(STR("test.yaml"), str_c(configuration), &report, &settings, &err) !=
        OK) {
        struct buf text BUF_CLEANUP;
        buf_init(&text, 65536);
        config_report_print(&report, false, &text);
        fail_msg("%.*s", STR_ARG(buf_str(&text)));
    }
    struct directory *directory = directory_stated_new(&stated);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        try_case(&cases[i], settings, directory);
    directory_stated_free(directory);
    settings_unref(settings);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rehearsals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
