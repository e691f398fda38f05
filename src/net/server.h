/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/server.h - a backend by name: the `servers` section. Steps and transports refer to these.
 */
#pragma once

#include "config/option.h"
#include "net/address.h"

struct tls_context;

enum server_kind {
    SERVER_SMTP,
    SERVER_LDAP,
    SERVER_CLAMD,
    SERVER_RSPAMD,
    SERVER_SPAMD,
    SERVER_MILTER,
    SERVER_HTTP,
    SERVER_LMTP
};
enum server_tls {
    SERVER_TLS_NONE,
    SERVER_TLS_OPPORTUNISTIC,
    SERVER_TLS_REQUIRED,
    SERVER_TLS_VERIFIED
};

/* As the file says it; static. */
struct str server_tls_name(enum server_tls tls);

struct server_endpoint {
    struct str host; /* a name or an address; "" for a Unix socket */
    uint16_t port;
    struct str unix_path;
    struct str url; /* as written, for ldap and http */
};

/* As the file says it, by the rows of server_options. */
struct server_written {
    struct option_texts smtp, lmtp, ldap, clamd, rspamd, spamd, milter, http;
    struct str password_file, bind_password_file;
};

struct server {
    struct str name;
    struct server_written written;
    enum server_kind kind;
    struct server_endpoint *endpoints;
    size_t endpoint_count;
    int tls;        /* enum server_tls; default: opportunistic */
    bool tls_given; /* written out in the file */
    struct str ca_file;
    struct str user;                            /* smarthost login */
    struct str password;                        /* read from password_file; never printed */
    int64_t timeout_ns;                         /* default 30s */
    bool starttls;                              /* ldap */
    struct str base_dn, bind_dn, bind_password; /* ldap; the password from bind_password_file */
    struct tls_context *tls_context;            /* client context; NULL: clear text */
    struct config_place place;
};

/* Read the section into an array in the context's arena; problems go to the report. Reads the
 * files of secrets. */
enum result server_bind_all(const struct config_node *section, const struct option_context *context,
                            struct server **out_servers, size_t *out_count);
/* "https://host[:port][/…]", or http. False: it is none, or has a user and password in it. */
bool server_parse_url(struct str text, struct server_endpoint *out);
const struct server *server_find(const struct server *servers, size_t count, struct str name);
/* A client's context of one of them that trusts the CAs of this file, or NULL (tls.h, trust_of). */
const struct tls_context *server_find_trust(const struct server *servers, size_t count,
                                            struct str ca_file);
/* Is every endpoint a loopback address, "localhost" or a Unix socket? */
bool server_is_loopback(const struct server *server);
/* Has this row of server_options a meaning for a server of its kind? */
bool server_has_key(const struct server *server, struct str key);
extern const struct option_table server_options;
