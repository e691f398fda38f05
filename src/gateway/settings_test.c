/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of gateway/settings: short forms, rules over the whole, what is found afterwards. */
#include "gateway/settings.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

struct loaded {
    struct arena *arena;
    struct config_report report;
    struct settings *settings;
    enum result result;
};

static void load(struct loaded *loaded, const char *text)
{
    struct error err;
    *loaded = (struct loaded){.arena = arena_new(0)};
    config_report_init(&loaded->report, loaded->arena);
    loaded->result =
        settings_load_text(STR("t.yaml"), str_c(text), &loaded->report, &loaded->settings, &err);
    assert_int_equal(loaded->result, loaded->report.errors ? FAILED : OK);
}

static void done(struct loaded *loaded)
{
    settings_unref(loaded->settings);
    arena_free(loaded->arena);
}

static const char *problems(const struct loaded *loaded)
{
    struct str all = STR_EMPTY;
    for (size_t i = 0; i < loaded->report.count; i++) {
        const struct config_problem *problem = &loaded->report.problems[i];
        all = arena_printf(loaded->arena, "%.*s%s%.*s %u:%u", STR_ARG(all), i ? " " : "",
                           STR_ARG(problem->code), problem->place.line, problem->place.column);
    }
    return arena_c(loaded->arena, all);
}

#define SHORT                                                                                      \
    "version: 1\n"                                                                                 \
    "hostname: mx.example.org\n"                                                                   \
    "servers: { mail: { smtp: \"127.0.0.1:2526\", tls: none } }\n"                                 \
    "listeners: { inbound: { preset: mx } }\n"                                                     \
    "domains:\n"                                                                                   \
    "  example.org: { recipients: { preset: local-users, server: mail },\n"                        \
    "                 transport: { server: mail } }\n"

static void test_short_form(void **state)
{
    (void)state;
    struct loaded loaded;
    load(&loaded, SHORT "  any: { preset: relay-authenticated }\n"
                        "entitlements: { open_relay_support: true }\n");
    assert_string_equal(problems(&loaded), "");
    const struct settings *settings = loaded.settings;
    const struct settings_listener *listener = settings_find_listener(settings, STR("inbound"));
    assert_int_equal(listener->address_count, 2);
    assert_int_equal(listener->addresses[0].port, 25);
    assert_int_equal(listener->smtp.tls, SMTP_TLS_NONE);
    assert_false(listener->smtp.authentication);
    assert_int_equal(listener->smtp.limits.size, 50 << 20);
    assert_int_equal(listener->direct_timeout_ns, 240 * NS_PER_S);
    assert_true(str_equal(listener->smtp.hostname, STR("mx.example.org")));
    const struct settings_domain *domain =
        settings_find_domain(settings, listener, STR("example.org"));
    assert_true(str_equal(domain->transport->name, STR("server:mail")));
    assert_int_equal(domain->transport->method, TRANSPORT_SERVER);
    assert_true(domain->transport->allow_private);
    assert_ptr_equal(domain->transport->server, &settings->servers[0]);
    assert_true(str_equal(flow_name(domain->content), STR("incoming")));
    const struct settings_domain *any =
        settings_find_domain(settings, listener, STR("elsewhere.example"));
    assert_true(any->is_any);
    assert_true(str_equal(any->transport->name, STR("internet")));
    assert_int_equal(any->transport->method, TRANSPORT_LOOKUP_MX);
    assert_int_equal(any->transport->direction, TRANSPORT_OUTBOUND);
    assert_true(str_equal(flow_name(any->content), STR("outgoing")));
    assert_true(
        str_equal(flow_name(settings_recipient_flow(listener, any)), STR("relay-authenticated")));
    assert_true(str_equal(settings->postmaster, STR("postmaster@example.org")));
    assert_true(settings_is_listed(settings, STR("example.org")));
    assert_false(settings_is_listed(settings, STR("elsewhere.example")));
    assert_ptr_equal(settings_route(settings, STR("elsewhere.example")), any);
    done(&loaded);
}

/* Everything that is wrong in one line added to the short form above (which ends in line 7). */
static const struct {
    const char *added, *problems;
} faults_cases[] = {
    {"  any: { preset: relay-authenticated }\n", "open-relay-support 8:3"},
    {"  any: { recipients: open, content: incoming, transport: internet }\n"
     "flows: { recipient: { open: [ accept ] } }\n"
     "entitlements: { open_relay_support: true }\n",
     "open-relay 8:3"},
    {"  any: { recipients: open, transport: internet, allow_open_relay: \"lab\" }\n"
     "flows: { recipient: { open: [ accept ] } }\n"
     "entitlements: { open_relay_support: true }\n",
     "open-relay 8:3"}, /* a warning */
    {"  any: { recipients: relay-authenticated, transport: internet, allow_open_relay: \"\" }\n"
     "entitlements: { open_relay_support: true }\n",
     "empty-value 8:64"},
    {"  any: { transport: internet }\nentitlements: { open_relay_support: true }\n",
     "missing-key 8:3"},
    {"  two.example: { recipients: local, transport: { server: mail } }\n", "unknown-name 8:30"},
    {"  two.example: { recipients: relay-authenticted, transport: { server: mail } }\n",
     "unknown-name 8:30"},
    {"  two.example: { recipients: [ accept ] }\n", "missing-key 8:16"},
    {"  two.example: { recipients: [ accept ], transport: to-mail }\n", "unknown-name 8:53"},
    {"  two.example: { recipients: [ accept ], transport: { server: mial } }\n",
     "unknown-name 8:63"},
    {"  EXAMPLE.org: { recipients: [ accept ], transport: { server: mail } }\n",
     "duplicate-name 8:3"},
    {"  a.example: { aliases: [ b.example, example.org ], recipients: [ accept ], "
     "transport: { server: mail } }\n",
     "duplicate-name 8:38"},
    {"  \"a@b.example\": { recipients: [ accept ], transport: { server: mail } }\n",
     "wrong-value 8:3"},
    {"transports: { lost: { method: lookup-mx } }\n", "unused-name 8:15"},
    {"transports: { lost: { method: lookup-mx, direction: inbound } }\n",
     "inbound-lookup-mx 8:15 unused-name 8:15"},
    {"transports: { lost: {} }\n", "missing-key 8:15 unused-name 8:15"},
    {"transports: { lost: { server: mail, tls: required } }\n", "wrong-key 8:37 unused-name 8:15"},
    {"quarantines: { spam: { keep: 30d } }\n", "unused-name 8:16"},
    {"version: 1\n", "duplicate-key 8:1"},
    {"trusted_networks: [ 10.0.0.0/8, 192.0.2.0/24, \"2001:db8::/48\" ]\n", ""},
    {"trusted_networks: [ 0.0.0.0/0 ]\n", "trusted-network 8:21"},
    {"trusted_networks: [ 203.0.0.0/16 ]\n", "trusted-network 8:21"},
    {"trusted_networks: [ \"2001:db8::/32\", 11.0.0.0/8, 10.0.0.0/7 ]\n",
     "trusted-network 8:21 trusted-network 8:38 trusted-network 8:50"},
    {"trusted_networks: [ { network: 0.0.0.0/0, reason: \"lab without a wire\" } ]\n", ""},
    {"trusted_networks: [ 10.0.0.1/8 ]\n", "wrong-value 8:21"},
    {"own_addresses: [ 192.0.2.1, \"192.0.2.1:25\", here ]\n", "wrong-value 8:45"},
    {"dns: { servers: [ 127.0.0.1, \"[::1]:5353\" ], static: { mail.local: [ 127.0.0.1 ], "
     "\"mx:x.example\": [ \"10 mail.local\" ] } }\n",
     ""},
    {"dns: { static: { mail.local: [ there ], \"mx:x.example\": [ mail.local ] } }\n",
     "wrong-value 8:32 wrong-value 8:59"},
    {"dns: { dnssec: valid }\n", "unknown-word 8:16"},
    {"control: { mode: 9 }\n", "wrong-value 8:18"},
    {"control: { mode: 0666 }\n", "control-open 8:18"},
    {"log: { to: file }\n", "missing-key 8:6"},
    {"admin: { listen: [ \"127.0.0.1:8443\", \"[::1]:8443\" ] }\n", ""},
    {"admin: { listen: [ \"192.0.2.1:8443\", \"0.0.0.0:8443\", here ] }\n",
     "wrong-value 8:54 clear-text 8:20 clear-text 8:38"},
    {"control: { scope: write }\n", "unknown-word 8:19"},
    {"postmaster: nobody\n", "wrong-value 8:13"},
    {"hostnmae: x\n", "unknown-key 8:1"},
    {"certificates: { main: { cert: /nonexistent/c.pem, key: /nonexistent/k.pem } }\n",
     "unreadable 8:31 unreadable 8:56"},
    {"lists: { friends: /nonexistent/friends }\n", "unreadable 8:19 unused-name 8:10"},
    {"domains_file: /nonexistent/domains\n", "unreadable 8:15"},
    {"memory: { messages: 1 }\nworkers: 0\n", "out-of-bounds 8:21"},
    {"entitlements: { protected_mailboxes: 500 }\nevents: { keep: 90d, size: 10G }\n", ""},
    {"providers: { big: [ mx.big.example ], small: x.example, google: [] }\n", ""},
    {"providers: { other: [ x.example ], \"a b\": [ x.example ], c: [ \"not a host\" ] }\n",
     "wrong-value 8:14 wrong-value 8:36 wrong-value 8:63"},
    {"domain_checks: { every: 2h, checks: [ mx, ptr ] }\n", "unknown-word 8:43"},
};

static void test_faults(void **state)
{
    (void)state;
    unsigned wrong = 0;
    for (size_t i = 0; i < sizeof faults_cases / sizeof *faults_cases; i++) {
        char text[4096];
        snprintf(text, sizeof text, "%s%s", SHORT, faults_cases[i].added);
        struct loaded loaded;
        load(&loaded, text);
        const char *found = problems(&loaded);
        if (strcmp(found, faults_cases[i].problems) != 0) {
            print_error("in %s\n  wanted %s\n  found  %s\n", faults_cases[i].added,
                        faults_cases[i].problems, found);
            wrong++;
        }
        done(&loaded);
    }
    assert_int_equal(wrong, 0);
}

/* Listeners in place of line 4 of a whole. */
static const struct {
    const char *listeners, *problems;
} listener_faults_cases[] = {
    {"a: { listen: \"127.0.0.1:2525\" }", ""},
    {"a: { preset: mxx }", "unknown-word 6:16 missing-key 6:6"},
    {"a: { listen: \"2525\" }", "wrong-value 6:16"},
    {"a: { listen: [] }", "empty-value 6:8"},
    {"a: { listen: \"127.0.0.1:2525\", tls: offered }", "no-certificate 6:34"},
    {"a: { listen: \"127.0.0.1:2525\", certificate: main }", "unknown-name 6:47"},
    {"a: { listen: [ \"0.0.0.0:25\", \"0.0.0.0:25\" ] }", "address-twice 6:32"},
    {"a: { preset: submission }", "no-certificate 6:16 missing-key 6:3"},
    {"a: { listen: \"127.0.0.1:2525\", authentication: staff }", "unknown-name 6:50"},
    {"a: { listen: \"127.0.0.1:2525\", authentication: [ smtp: { server: mail } ] }",
     "no-login 6:3"},
    {"a: { listen: \"127.0.0.1:2525\", authentication: [ smtp: { server: mail } ],\n"
     "       allow_cleartext_auth: true }",
     "cleartext-auth 7:8"},
    {"a: { listen: \"127.0.0.1:2525\", authentication: { flow: [ file: p ], required: 1 } }",
     "wrong-type 6:81"},
    {"a: { listen: \"127.0.0.1:2525\", domains: [ example.com ] }", "unknown-name 6:45"},
    {"a: { listen: \"127.0.0.1:2525\", proxy: { from: [ 10.0.0.0/33 ] } }", "wrong-value 6:51"},
    {"a: { listen: \"127.0.0.1:2525\", proxy: {} }", "missing-key 6:41"},
    {"a: { listen: \"127.0.0.1:2525\", recipients: [ accept ] }",
     "deprecated 6:34 recipients-twice 6:34"},
    {"a: { listen: \"127.0.0.1:2525\", limits: { size: 50MB } }", "wrong-unit 6:50"},
    {"a: { listen: \"127.0.0.1:2525\", direct_timeout: 4 minutes }", "wrong-unit 6:50"},
    {"a: { listen: \"127.0.0.1:2525\", min_version: 1.1 }", "unknown-word 6:47"},
    {"a: 25", "wrong-type 6:6"},
};

static void test_listener_faults(void **state)
{
    (void)state;
    unsigned wrong = 0;
    for (size_t i = 0; i < sizeof listener_faults_cases / sizeof *listener_faults_cases; i++) {
        char text[4096];
        snprintf(text, sizeof text,
                 "version: 1\nhostname: mx.example.org\n"
                 "servers: { mail: { smtp: \"127.0.0.1:2526\", tls: none } }\n"
                 "domains: { example.org: { recipients: [ accept ], transport: { server: mail } } "
                 "}\nlisteners:\n  %s\n",
                 listener_faults_cases[i].listeners);
        struct loaded loaded;
        load(&loaded, text);
        const char *found = problems(&loaded);
        if (strcmp(found, listener_faults_cases[i].problems) != 0) {
            print_error("in %s\n  wanted %s\n  found  %s\n", listener_faults_cases[i].listeners,
                        listener_faults_cases[i].problems, found);
            wrong++;
        }
        done(&loaded);
    }
    assert_int_equal(wrong, 0);
}

static void test_server_faults(void **state)
{
    (void)state;
    static const struct {
        const char *server, *problems;
    } cases[] = {
        {"smtp: mail.example.org", ""},
        {"smtp: [ \"a.example:25\", \"[2001:db8::1]:2525\", 192.0.2.1 ]", ""},
        {"smtp: \"mail.example.org:0\"", "wrong-value 7:7"},
        {"smtp: \"mail example\"", "wrong-value 7:7"},
        {"smtp: [ ]", "empty-value 7:7"},
        {"tls: none", "missing-key 3:3"},
        {"smtp: a\n    ldap: ldap://b", "wrong-value 8:5"},
        {"smtp: a\n    base_dn: x", "wrong-key 8:5"},
        {"ldap: ldap.example.org", "wrong-value 7:7"},
        {"ldap: \"ldap://cn=x:secret@ldap.example.org\"", "secret-inline 7:7"},
        {"ldap: \"ldaps://ldap.example.org\"\n    tls: verified", "wrong-key 8:5"},
        {"ldap: \"ldaps://ldap.example.org\"\n    bind_dn: cn=x", "missing-key 8:5"},
        {"ldap: \"ldaps://ldap.example.org\"\n    bind_password: hunter2", "secret-inline 8:5"},
        {"smtp: a\n    user: u\n    password_file: /nonexistent/p", "unreadable 9:20"},
        {"smtp: a\n    ca_file: /nonexistent/ca.pem", "unreadable 8:14"},
        {"clamd: unix:/run/clamav/clamd.ctl", ""},
        {"rspamd: http://127.0.0.1:11333", ""},
        {"rspamd: 127.0.0.1:11333", "wrong-value 7:9"},
        {"smtp: a\n    timeout: 30", "wrong-unit 8:14"},
        {"smtp: a\n    tls: starttls", "unknown-word 8:10"},
    };
    unsigned wrong = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[4096];
        /* the server stands in a line of its own so that places are easy to count */
        snprintf(text, sizeof text, "version: 1\nservers:\n  it:\n    %s\n", cases[i].server);
        struct arena *arena = arena_new(0);
        struct config_report report;
        struct config_node root;
        config_report_init(&report, arena);
        assert_int_equal(config_load_text(STR("t"), str_c(text), arena, &report, &root), OK);
        struct option_context context = {.arena = arena, .report = &report, .root = &root};
        struct server *servers;
        size_t count;
        (void)!server_bind_all(config_get(&root, STR("servers")), &context, &servers, &count);
        struct str all = STR_EMPTY;
        for (size_t k = 0; k < report.count; k++) {
            unsigned line = report.problems[k].place.line;
            all = arena_printf(arena, "%.*s%s%.*s %u:%u", STR_ARG(all), k ? " " : "",
                               STR_ARG(report.problems[k].code), line >= 4 ? line + 3 : line,
                               report.problems[k].place.column - (line == 4 ? 4 : 0));
        }
        if (!str_equal(all, str_c(cases[i].problems))) {
            print_error("%s: found \"%.*s\"\n", cases[i].server, STR_ARG(all));
            wrong++;
        }
        arena_free(arena);
    }
    assert_int_equal(wrong, 0);
}

static void test_several_at_once(void **state)
{
    (void)state;
    struct loaded loaded;
    load(&loaded, "version: 2\nhostname: x y\nservers: { mail: { smtp: mail, tls: non } }\n"
                  "listeners: { a: { listen: \"x\", certficate: main } }\n"
                  "domains: { example.org: { recipients: a, transport: b } }\nfoo: yes\n");
    assert_string_equal(problems(&loaded),
                        "yes-no 6:6 out-of-bounds 1:10 unknown-key 6:1 wrong-value 2:11 "
                        "unknown-word 3:37 unknown-key 4:32 wrong-value 4:27 unknown-name 5:53 "
                        "unknown-name 5:39 unused-name 3:12");
    done(&loaded);

    load(&loaded, "[ 1 ]\n");
    assert_string_equal(problems(&loaded), "wrong-type 1:1");
    done(&loaded);
    load(&loaded, "version: 1\nlisteners: [\n");
    assert_int_equal(loaded.report.errors, 1);
    done(&loaded);
}

static void test_domains_of_a_listener(void **state)
{
    (void)state;
    struct loaded loaded;
    load(&loaded, "version: 1\nhostname: mx.example.org\n"
                  "servers: { mail: { smtp: \"127.0.0.1:2526\" } }\n"
                  "listeners:\n"
                  "  inbound: { listen: \"0.0.0.0:2525\", domains: [ example.org ] }\n"
                  "  both: { listen: \"127.0.0.1:2526\" }\n"
                  "entitlements: { open_relay_support: true }\n"
                  "own_addresses: [ 192.0.2.1, \"192.0.2.2:25\" ]\n"
                  "domains:\n"
                  "  example.org: { aliases: [ B\xc3\xbc"
                  "cher.example ], recipients: [ accept ],\n"
                  "                 transport: { server: mail, port: 26 } }\n"
                  "  any: { preset: relay-authenticated }\n");
    assert_string_equal(problems(&loaded), "");
    const struct settings *settings = loaded.settings;
    const struct settings_listener *inbound = settings_find_listener(settings, STR("inbound"));
    const struct settings_listener *both = settings_find_listener(settings, STR("both"));
    assert_non_null(settings_find_domain(settings, inbound, STR("example.org")));
    assert_true(
        str_equal(settings_find_domain(settings, inbound, STR("xn--bcher-kva.example"))->name,
                  STR("example.org")));
    assert_null(settings_find_domain(settings, inbound, STR("other.example")));
    assert_true(settings_find_domain(settings, both, STR("other.example"))->is_any);
    assert_non_null(settings_find_transport(settings, STR("domain:example.org")));
    static const struct {
        const char *address;
        bool own;
    } cases[] = {
        {"127.0.0.1:2525", true},  {"127.0.0.1:2526", true}, {"127.0.0.1:25", false},
        {"192.0.2.1:999", true},   {"192.0.2.2:25", true},   {"192.0.2.2:26", false},
        {"192.0.2.9:2525", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct net_address address;
        assert_true(net_address_parse(str_c(cases[i].address), 0, &address));
        if (settings_is_own_address(settings, &address) != cases[i].own)
            fail_msg("%s", cases[i].address);
    }
    done(&loaded);
}

static void test_files(void **state)
{
    (void)state;
    char folder[] = "/tmp/postern-settings-XXXXXX", text[4096], path[3][256];
    static const char *const names[] = {"domains", "friends", "secret"};
    static const char *const contents[] = {
        "# more\nsecond.example\nthird.example  example.org # like it\n\n",
        "192.0.2.0/24\nBob@Example.org\n# x\nexample.net\n", "hunter2\n"};
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < 3; i++) {
        snprintf(path[i], sizeof path[i], "%s/%s", folder, names[i]);
        FILE *file = fopen(path[i], "w");
        fputs(contents[i], file);
        fclose(file);
    }
    snprintf(text, sizeof text,
             "version: 1\nhostname: mx.example.org\n"
             "servers: { mail: { smtp: \"127.0.0.1:2526\", user: u, password_file: %s } }\n"
             "listeners: { inbound: { preset: mx } }\n"
             "domains_file: %s\nlists: { friends: { path: %s } }\n"
             "domains: { example.org: { transport: { server: mail }, recipients: [ "
             "{ accept: { when: client in friends } } ] } }\n",
             path[2], path[0], path[1]);
    struct loaded loaded;
    load(&loaded, text);
    assert_int_equal(loaded.result, OK);
    const struct settings *settings = loaded.settings;
    assert_true(settings_is_listed(settings, STR("third.example")));
    assert_true(
        str_equal(settings_route(settings, STR("second.example"))->name, STR("example.org")));
    assert_int_equal(settings->lists[0].network_count, 1);
    assert_int_equal(settings->lists[0].text_count, 2);
    assert_true(str_equal(settings->lists[0].texts[0], STR("bob@example.org")));
    assert_int_equal(settings->files.count, 2);
    assert_true(str_equal(settings->servers[0].password, STR("hunter2")));
    struct buf out BUF_CLEANUP;
    buf_init(&out, 1 << 20);
    settings_effective(settings, &out);
    assert_true(str_find_str(buf_str(&out), STR("hunter2")) < 0);
    assert_true(str_find_str(buf_str(&out), STR("    smtp: [ \"127.0.0.1:2526\" ]  # ")) >= 0);
    done(&loaded);
    for (size_t i = 0; i < 3; i++)
        unlink(path[i]);
    rmdir(folder);
}

static void test_providers(void **state)
{
    static const struct {
        const char *host, *provider;
    } cases[] = {
        {"aspmx.l.google.com", "google"},
        {"GMAIL-SMTP-IN.L.GOOGLE.COM", "google"},
        {"example-org.mail.protection.outlook.com", "microsoft"},
        {"mx.zoho.com", "other"}, /* taken off the list */
        {"mx1.big.example", "big"},
        {"big.example", "big"},
        {"notbig.example", "other"},
        {"google.com.evil.example", "other"},
        {"", "other"},
    };
    (void)state;
    struct loaded loaded;
    load(&loaded, SHORT "providers: { big: [ Big.Example ], zoho: [] }\n");
    assert_int_equal(loaded.result, OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct str found = settings_provider(loaded.settings, str_c(cases[i].host));
        if (!str_equal(found, str_c(cases[i].provider)))
            fail_msg("%s: %.*s", cases[i].host, STR_ARG(found));
    }
    done(&loaded);
}

static void test_snapshot_outlives_report(void **state)
{
    (void)state;
    struct loaded loaded;
    load(&loaded, SHORT);
    assert_int_equal(loaded.result, OK);
    struct settings *kept = settings_ref(loaded.settings);
    done(&loaded);
    assert_true(str_equal(kept->hostname, STR("mx.example.org")));
    assert_true(settings_is_listed(kept, STR("example.org")));
    settings_unref(kept);
    settings_unref(NULL);
}

/* ---- the example of the manual ---- */

/* tests run in the build folder, by hand at the root */
static void data_path(char path[512], const char *name)
{
    struct str here = str_c(__FILE__);
    ptrdiff_t cut = str_find_str(here, STR("src/gateway/"));
    snprintf(path, 512, "%.*stests/data/example/%s", (int)cut, here.ptr, name);
    if (access(path, R_OK) != 0)
        snprintf(path, 512, "tests/data/example/%s", name);
}

static void load_file(struct loaded *loaded, const char *name)
{
    char path[512];
    data_path(path, name);
    struct error err;
    *loaded = (struct loaded){.arena = arena_new(0)};
    config_report_init(&loaded->report, loaded->arena);
    loaded->result = settings_load(path, &loaded->report, &loaded->settings, &err);
}

/* Whatever umask the files were checked out with. */
static size_t count_secret_warnings(const struct loaded *loaded)
{
    size_t count = 0;
    for (size_t i = 0; i < loaded->report.count; i++)
        count += str_equal(loaded->report.problems[i].code, STR("secret-readable"));
    return count;
}

static void test_example(void **state)
{
    (void)state;
    struct loaded loaded, again;
    load_file(&loaded, "postern.yaml");
    for (size_t i = 0; i < loaded.report.count; i++)
        print_message("%.*s\n", STR_ARG(loaded.report.problems[i].text));
    assert_int_equal(loaded.result, OK);
    assert_int_equal(loaded.report.count, count_secret_warnings(&loaded));
    const struct settings_listener *submission =
        settings_find_listener(loaded.settings, STR("submission"));
    assert_int_equal(submission->smtp.tls, SMTP_TLS_REQUIRED);
    assert_non_null(submission->smtp.tls_context);
    assert_true(submission->smtp.authentication_required);
    assert_true(str_equal(flow_name(submission->authentication), STR("staff")));
    assert_int_equal(submission->smtp.trusted_count, 1);
    const struct transport *inbound =
        settings_find_transport(loaded.settings, STR("to-mail-server"));
    assert_int_equal(inbound->retry.count, 120);
    assert_int_equal(transport_retry_delay(inbound, 120), 3600 * NS_PER_S);
    assert_true(str_equal(loaded.settings->servers[1].bind_password, STR("only-for-tests")));

    /* what is shown as effective is a configuration with the same effect */
    struct buf first BUF_CLEANUP, second BUF_CLEANUP;
    buf_init(&first, 1 << 20);
    buf_init(&second, 1 << 20);
    settings_effective(loaded.settings, &first);
    buf_append_byte(&first, '\0');
    load(&again, first.ptr);
    assert_int_equal(again.result, OK);
    settings_effective(again.settings, &second);
    assert_int_equal(again.settings->listener_count, loaded.settings->listener_count);
    assert_int_equal(again.settings->transport_count, loaded.settings->transport_count);
    assert_true(second.len > 1000);
    done(&again);
    done(&loaded);
}

static void test_certificate_without_key(void **state)
{
    (void)state;
    char cert[512], text[4096];
    data_path(cert, "tls/fullchain.pem");
    snprintf(text, sizeof text, "%scertificates:\n  main: { cert: %s, key: %s }\n", SHORT, cert,
             cert);
    struct loaded loaded;
    load(&loaded, text);
    assert_string_equal(problems(&loaded), "certificate 9:3");
    done(&loaded);
}

static void test_schema(void **state)
{
    (void)state;
    struct buf out BUF_CLEANUP;
    buf_init(&out, 1 << 20);
    settings_schema(&out);
    json_error_t error;
    json_t *schema = json_loadb(out.ptr, out.len, 0, &error);
    if (!schema)
        fail_msg("%s at %d", error.text, error.position);
    json_t *properties = json_object_get(schema, "properties");
    assert_non_null(json_object_get(properties, "listeners"));
    assert_non_null(json_object_get(properties, "flows"));
    assert_non_null(json_object_get(json_object_get(properties, "hostname"), "description"));
    json_decref(schema);
    buf_clear(&out);
    settings_manual(&out);
    assert_true(str_find_str(buf_str(&out), STR("retry")) >= 0);
}

/* The guide's retries: attempts at 0, 15, 30, 60, 120 minutes, given up when the fifth fails. */
static void test_retry_delays(void **state)
{
    (void)state;
    static const struct {
        const char *retry;
        int minutes[7]; /* of retry 1 … 7; -1: there is none */
    } cases[] = {
        {"{ delays: [ 15m, 15m, 30m, 60m ], count: 4 }", {15, 15, 30, 60, -1, -1, -1}},
        {"{ delays: [ 15m, 15m, 30m, 60m ] }", {15, 15, 30, 60, -1, -1, -1}},
        {"{ delays: [ 5m, 60m ], count: 5 }", {5, 60, 60, 60, 60, -1, -1}},
        {"{ delays: [ 5m, 60m ], count: 1 }", {5, -1, -1, -1, -1, -1, -1}},
        {"{ delays: 5m, count: 2 }", {5, 5, -1, -1, -1, -1, -1}},
        {"{ count: 0 }", {-1, -1, -1, -1, -1, -1, -1}},
        {"{ delays: [], count: 0 }", {-1, -1, -1, -1, -1, -1, -1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena *arena = arena_new(0);
        struct config_report report;
        struct config_node root;
        config_report_init(&report, arena);
        struct str text = arena_printf(arena, "transports: { t: { method: discard, retry: %s } }\n",
                                       cases[i].retry);
        assert_int_equal(config_load_text(STR("t"), text, arena, &report, &root), OK);
        struct option_context context = {.arena = arena, .report = &report, .root = &root};
        struct transport *transports;
        size_t count;
        assert_int_equal(transport_bind_all(config_get(&root, STR("transports")), &context, NULL, 0,
                                            &transports, &count),
                         OK);
        assert_int_equal(transport_retry_delay(transports, 0), -1);
        for (unsigned k = 1; k <= 7; k++) {
            int64_t wanted = cases[i].minutes[k - 1];
            assert_int_equal(transport_retry_delay(transports, k),
                             wanted < 0 ? -1 : wanted * 60 * NS_PER_S);
        }
        arena_free(arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_form),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_listener_faults),
        cmocka_unit_test(test_server_faults),
        cmocka_unit_test(test_several_at_once),
        cmocka_unit_test(test_domains_of_a_listener),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_providers),
        cmocka_unit_test(test_snapshot_outlives_report),
        cmocka_unit_test(test_example),
        cmocka_unit_test(test_certificate_without_key),
        cmocka_unit_test(test_schema),
        cmocka_unit_test(test_retry_delays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
