/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/init.c - `postern init TEMPLATE`: a first configuration that checks, with a certificate to
 * start with.
 */
#include "base/buf.h"
#include "crypto/certificate.h"
#include "ctl/list.h"
#include "gateway/settings.h"
#include "mail/address.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SCHEMA_MAX = 4 * 1024 * 1024 };

struct choices {
    const char *folder;
    struct str domain;
    const char *server;
    struct str hostname;
};

/* clang-format off */
static const char relay_authenticated[] =
    "# yaml-language-server: $schema=./postern.schema.json\n"
    "#\n"
    "# Strangers reach known users of %1$.*2$s; users who log in with an account of their own mail\n"
    "# server send to the world. Check this file after every change: postern check %3$s/postern.yaml\n"
    "version: 1\n"
    "hostname: %4$.*5$s\n"
    "\n"
    "servers:                     # your own mail server: it knows who exists and who may log in\n"
    "  mail: { smtp: \"%6$s\" }\n"
    "\n"
    "certificates:                # made by postern init, self-signed: put your own in its place\n"
    "  main: { cert: tls/cert.pem, key: tls/key.pem }\n"
    "\n"
    "listeners:\n"
    "  inbound:    { preset: mx, certificate: main }\n"
    "  submission: { preset: submission, certificate: main, authentication: { flow: staff, required: true } }\n"
    "\n"
    "flows:\n"
    "  authentication:\n"
    "    staff:\n"
    "      - limit: { by: client, failures: 10/15m, then: defer }\n"
    "      - smtp: { server: mail }         # the mail server's answer decides\n"
    "\n"
    "domains:\n"
    "  %1$.*2$s: { recipients: { preset: local-users, server: mail }, transport: { server: mail } }\n"
    "  any: { preset: relay-authenticated } # everybody else: users who logged in only, by MX\n"
    "\n"
    "entitlements: { open_relay_support: true }   # mail to arbitrary domains is wanted here\n"
    "\n"
    "spool: { path: /var/spool/postern }\n"
    "control: { socket: /run/postern/control.sock }\n";

/* The seven cases of a gateway for one organisation, as flow tests. */
static const char relay_tests[] =
    "# What this gateway must do, run by: postern test\n"
    "# Nobody is asked: `given` says what your mail server would answer.\n"
    "given:\n"
    "  servers:\n"
    "    mail: { recipients: [ test@%1$.*2$s ], logins: { anna: correct } }\n"
    "\n"
    "tests:\n"
    "  - name: a stranger writes to a user of ours\n"
    "    session: { listener: inbound, client: 192.0.2.7 }\n"
    "    mail:    { from: a@sender.example, to: test@%1$.*2$s }\n"
    "    expect:  { recipient: accept, domain: %1$.*2$s, verdict: deliver, transport: \"server:mail\" }\n"
    "\n"
    "  - name: a stranger writes to nobody\n"
    "    session: { listener: inbound, client: 192.0.2.7 }\n"
    "    mail:    { from: a@sender.example, to: nobody@%1$.*2$s }\n"
    "    expect:  { recipient: reject, reply: \"550 5.1.1\", reason: recipient_unknown }\n"
    "\n"
    "  - name: a stranger tries to relay\n"
    "    session: { listener: inbound, client: 192.0.2.7 }\n"
    "    mail:    { from: a@sender.example, to: test@elsewhere.example }\n"
    "    expect:  { recipient: reject, reply: \"554 5.7.1\", domain: any, reason: relay_denied }\n"
    "\n"
    "  - name: a user writes to a colleague, who is not looked up\n"
    "    session: { listener: submission, client: 192.0.2.8, tls: true, user: anna, password: correct }\n"
    "    mail:    { from: anna@%1$.*2$s, to: new.colleague@%1$.*2$s }\n"
    "    expect:  { auth: accept, recipient: accept, step: accept, domain: %1$.*2$s, transport: \"server:mail\" }\n"
    "\n"
    "  - name: a user writes to the world\n"
    "    session: { listener: submission, client: 192.0.2.8, tls: true, user: anna, password: correct }\n"
    "    mail:    { from: anna@%1$.*2$s, to: test@elsewhere.example }\n"
    "    expect:  { auth: accept, recipient: accept, domain: any, verdict: deliver, transport: internet }\n"
    "\n"
    "  - name: no login before TLS\n"
    "    session: { listener: submission, client: 192.0.2.8, user: anna, password: correct }\n"
    "    expect:  { auth: refused, reply: \"530 5.7.0\" }\n"
    "\n"
    "  - name: the mail server is down, so passwords are neither right nor wrong\n"
    "    given:   { servers: { mail: down } }\n"
    "    session: { listener: submission, client: 192.0.2.8, tls: true, user: anna, password: correct }\n"
    "    expect:  { auth: defer, reply: \"454 4.7.0\", reason: backend_down }\n";
/* clang-format on */

/* Root's files are read by the user that posternd becomes: the group of that name gets them. */
static void share(const char *path)
{
    struct group *group = geteuid() == 0 ? getgrnam("postern") : NULL;
    if (group && chown(path, (uid_t)-1, group->gr_gid) != 0)
        fprintf(stderr, "postern: %s stays without group postern: %s\n", path, strerror(errno));
}

static bool write_new(const char *path, struct str text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    bool good = fd >= 0 && write(fd, text.ptr, text.len) == (ssize_t)text.len;
    good = fd >= 0 && close(fd) == 0 && good;
    if (!good)
        fprintf(stderr, "postern: cannot write %s: %s\n", path, strerror(errno));
    else
        share(path);
    return good;
}

static bool make_folder(const char *path)
{
    if (mkdir(path, 0750) == 0) {
        share(path);
        return true;
    }
    if (errno == EEXIST)
        return true;
    fprintf(stderr, "postern: cannot make %s: %s\n", path, strerror(errno));
    return false;
}

/* Certificate and key, unless both are there already (an earlier init, or the operator's own). */
static bool make_certificate(struct ctl *ctl, const struct choices *choices)
{
    struct str folder = arena_printf(ctl->arena, "%s/tls", choices->folder);
    struct str cert = arena_printf(ctl->arena, "%s/cert.pem", folder.ptr);
    struct str key = arena_printf(ctl->arena, "%s/key.pem", folder.ptr);
    struct error err;
    if (!make_folder(folder.ptr))
        return false;
    if (access(cert.ptr, F_OK) == 0 && access(key.ptr, F_OK) == 0)
        return true;
    if (certificate_make(choices->hostname, cert.ptr, key.ptr, &err) == OK) {
        share(cert.ptr);
        share(key.ptr);
        return true;
    }
    fprintf(stderr, "postern: %s\n", err.text);
    return false;
}

/* What editors complete and check the file with (its first line names it). */
static bool write_schema(struct ctl *ctl, const struct choices *choices)
{
    struct str path = arena_printf(ctl->arena, "%s/postern.schema.json", choices->folder);
    struct buf schema BUF_CLEANUP;
    buf_init(&schema, SCHEMA_MAX);
    settings_schema(&schema);
    return access(path.ptr, F_OK) == 0 || write_new(path.ptr, buf_str(&schema));
}

static bool write_tests(struct ctl *ctl, const struct choices *choices)
{
    struct str folder = arena_printf(ctl->arena, "%s/tests", choices->folder);
    struct str path = arena_printf(ctl->arena, "%s/relay.test.yaml", folder.ptr);
    struct str text =
        arena_printf(ctl->arena, relay_tests, choices->domain.ptr, (int)choices->domain.len);
    return access(path.ptr, F_OK) == 0 || (make_folder(folder.ptr) && write_new(path.ptr, text));
}

static int write_template(struct ctl *ctl, const struct choices *choices)
{
    struct str path = arena_printf(ctl->arena, "%s/postern.yaml", choices->folder);
    struct str text = arena_printf(ctl->arena, relay_authenticated, choices->domain.ptr,
                                   (int)choices->domain.len, choices->folder, choices->hostname.ptr,
                                   (int)choices->hostname.len, choices->server);
    if (!make_folder(choices->folder) || !make_certificate(ctl, choices) ||
        !write_new(path.ptr, text) || !write_schema(ctl, choices) || !write_tests(ctl, choices))
        return CTL_NO;
    if (ctl->json) {
        json_t *written = json_pack("{s:s, s:s}", "file", path.ptr, "folder", choices->folder);
        ctl_print(ctl, written);
        json_decref(written);
        return CTL_YES;
    }
    printf("wrote %s\nnext: postern check %s   then: postern test --config %s   then: posternd "
           "--config %s\n",
           path.ptr, path.ptr, path.ptr, path.ptr);
    return CTL_YES;
}

/* "host:port" or "host"; nothing that could break out of the quotes. */
static bool is_endpoint(const char *text)
{
    for (const char *at = text; *at; at++) {
        if (!ascii_is_alpha(*at) && !ascii_is_digit(*at) && !strchr(".:-[]", *at))
            return false;
    }
    return text[0] != '\0';
}

int ctl_init(struct ctl *ctl)
{
    const char *domain = ctl_option(ctl, "--domain");
    const char *server = ctl_option(ctl, "--server");
    const char *hostname = ctl_option(ctl, "--hostname");
    const char *folder = ctl_option(ctl, "--output");
    ctl_arguments(ctl, 1, 1);
    if (strcmp(ctl->argv[0], "relay-authenticated") != 0) {
        fprintf(stderr, "postern: the templates are: relay-authenticated\n");
        return CTL_USAGE;
    }
    if (!domain || !server || !is_endpoint(server)) {
        fprintf(stderr, "postern: init needs --domain DOMAIN and --server HOST:PORT\n");
        return CTL_USAGE;
    }
    struct choices choices = {.folder = folder ? folder : ".", .server = server};
    if (!mail_domain_normalize(ctl->arena, str_c(domain), &choices.domain)) {
        fprintf(stderr, "postern: %s is not a domain name\n", domain);
        return CTL_USAGE;
    }
    choices.hostname = arena_printf(ctl->arena, "mx.%.*s", STR_ARG(choices.domain));
    if (hostname && !mail_domain_normalize(ctl->arena, str_c(hostname), &choices.hostname)) {
        fprintf(stderr, "postern: %s is not a host name\n", hostname);
        return CTL_USAGE;
    }
    return write_template(ctl, &choices);
}
