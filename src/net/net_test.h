/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/net_test.h - what tests of this module share: fibers on a loop, and certificates.
 */
#pragma once

#include "base/str.h"
#include "fiber/loop.h"

/* Run `first(arg)` and `second(arg)` (may be NULL) as fibers until both have ended; on the loop of
 * test_loop_open, else on one of its own. */
void run_fibers(void (*first)(void *arg), void (*second)(void *arg), void *arg);
/* The loop of this test, between test_loop_open and test_loop_close. */
struct loop *test_loop_open(void);
void test_loop_close(void);

struct test_certificate {
    char cert_path[128], key_path[128];
};
enum test_key { TEST_KEY_EC, TEST_KEY_RSA };
/*
 * A self-signed certificate for `names` ("DNS:a.test,DNS:b.test", "IP:127.0.0.1") in the test's
 * folder, valid for `days` from now (negative: ended).
 */
void make_certificate(const char *base_name, const char *names, enum test_key kind, int days,
                      struct test_certificate *out);
struct tls_context;
/* Contexts for the ends of a test; it fails if there can be none. `ca_path` may be NULL. */
struct tls_context *new_tls_server(const struct test_certificate *const *files, size_t count);
struct tls_context *new_tls_client(bool verify, const char *ca_path);
/* Two ends of a connection; the first does not block. */
void open_socket_pair(int fds[2]);
/* A folder of this process, removed with all files at exit. */
const char *test_folder(void);
