/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/bench-content.c - CPU time of sender authentication on a message of 4 KiB: SPF, DKIM and
 * DMARC together with the field that tells of them, and signing; beside what the cryptography alone
 * takes. Keys are parsed from their records for each message. DNS answers come from memory, and
 * once more (`cached`) through the resolver of a worker, which has them in its cache.
 *
 *   bench-content prepare FOLDER   keys, their zone, a message, and it signed with each key
 *   bench-content run FOLDER       a line a figure: its name, a tab, microseconds
 *
 * The thread's CPU time, the best of several batches: whatever else runs here makes figures worse.
 */
#include "base/check.h"
#include "content/auth_results.h"
#include "content/dkim.h"
#include "content/dkim_key.h"
#include "content/dmarc.h"
#include "content/spf.h"
#include "fiber/test.h"
#include "mail/header.h"

#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FILE_SIZE_MAX = 1 << 20, MESSAGE_SIZE = 4096, BATCHES = 10, BATCH = 50 };

struct bench {
    const char *folder;
    struct buf message, zone;
    struct buf signed_message; /* by the key of the figure */
    struct sign_key *key;
    EVP_PKEY *raw;
    const char *selector;
    struct dns *dns; /* NULL: from memory */
};

/* ---- files ---- */

static FILE *open_file(const char *folder, const char *name, const char *mode)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, mode);
    if (!file) {
        perror(path);
        exit(2);
    }
    return file;
}

static void read_file(const char *folder, const char *name, struct buf *out)
{
    FILE *file = open_file(folder, name, "re");
    size_t got = 1;
    buf_init(out, FILE_SIZE_MAX);
    while (got) {
        char *room = buf_reserve(out, 65536);
        check(room != NULL);
        got = fread(room, 1, 65536, file);
        out->len += got;
    }
    fclose(file);
}

static void write_file(const char *folder, const char *name, struct str text)
{
    FILE *file = open_file(folder, name, "we");
    check(fwrite(text.ptr, 1, text.len, file) == text.len && fclose(file) == 0);
}

/* ---- a message, as a flow has it ---- */

struct message {
    struct arena *arena;
    struct mail_content content;
    struct dkim_message dkim;
};

static NO_YIELD_CHECK void message_open(struct message *message, const struct buf *text)
{
    struct error err;
    message->arena = arena_new(0);
    message->content =
        (struct mail_content){.head = STR_EMPTY, .body = body_memory_new(FILE_SIZE_MAX)};
    check(body_append(message->content.body, buf_str(text), &err) == OK);
    check(body_seal(message->content.body, &err) == OK);
    dkim_message_init(&message->dkim, &message->content,
                      str_slice(buf_str(text), 0, mail_header_length(buf_str(text))));
}

static void message_close(struct message *message)
{
    body_unref(message->content.body);
    arena_free(message->arena);
}

/* ---- DNS from memory ---- */

static enum result look_up(void *context, struct str name, struct arena *arena,
                           struct dns_text_answer *out, struct error *err)
{
    struct str rest = buf_str(context);
    struct str line, owner;
    (void)err;
    *out = (struct dns_text_answer){.status = DNS_NO_NAME};
    while (str_split(&rest, '\n', &line)) {
        if (!str_split(&line, '\t', &owner) || !str_equal_nocase(owner, name))
            continue;
        out->texts = ARENA_NEW(arena, struct str);
        *out->texts = arena_str(arena, line);
        out->count = 1;
        out->status = DNS_FOUND;
    }
    return OK;
}

static enum result ask(void *context, enum resolver_type type, struct str name, struct arena *arena,
                       struct resolver_answer *out, struct error *err)
{
    struct dns_text_answer answer;
    check(type == RESOLVER_TXT && look_up(context, name, arena, &answer, err) == OK);
    *out = (struct resolver_answer){
        .status = answer.status, .texts = answer.texts, .count = answer.count};
    return OK;
}

/* ---- what is measured ---- */

static NO_YIELD_CHECK void sign(struct bench *bench)
{
    struct message message;
    struct str field;
    struct error err;
    struct dkim_signer signer = {.domain = STR("example.org"),
                                 .selector = str_c(bench->selector),
                                 .key = bench->key,
                                 .header = DKIM_RELAXED,
                                 .body = DKIM_RELAXED};
    message_open(&message, &bench->message);
    check(dkim_sign(&message.dkim, &signer, message.arena, &field, &err) == OK);
    message_close(&message);
}

static NO_YIELD_CHECK void verify(struct bench *bench)
{
    struct message message;
    struct dkim_answer answer;
    struct error err;
    struct dkim_dns dns = {.text = look_up, .context = &bench->zone};
    message_open(&message, &bench->signed_message);
    check(dkim_verify(&message.dkim, &dns, message.arena, &answer, &err) == OK);
    check(answer.result == DKIM_PASS);
    message_close(&message);
}

static MAY_YIELD enum result look_up_asking(void *context, struct str name, struct arena *arena,
                                            struct dns_text_answer *out, struct error *err)
{
    struct resolver_answer answer;
    check(resolver_ask(context, RESOLVER_TXT, name, arena, &answer, err) == OK);
    *out = (struct dns_text_answer){
        .status = answer.status, .texts = answer.texts, .count = answer.count};
    return OK;
}

static NO_YIELD_CHECK void verify_all(struct bench *bench)
{
    struct message message;
    struct dkim_answer dkim;
    struct spf_outcome spf;
    struct author author;
    struct dmarc_outcome dmarc;
    struct error err;
    struct resolver resolver = {.ask = ask, .context = &bench->zone, .budget = RESOLVER_BUDGET};
    if (bench->dns)
        resolver = resolver_of_dns(bench->dns);
    struct dkim_dns dns = {.text = look_up_asking, .context = &resolver};
    struct spf_request sender = {.helo = STR("out.example.org"),
                                 .sender = STR("ann@example.org"),
                                 .receiver = STR("mx.example.net"),
                                 .now = 1700000000};
    check(net_ip_parse(STR("192.0.2.7"), &sender.client));
    message_open(&message, &bench->signed_message);
    spf_check(&resolver, &sender, message.arena, &spf);
    check(dkim_verify(&message.dkim, &dns, message.arena, &dkim, &err) == OK);
    author_read(message.dkim.header, message.arena, &author);
    struct dmarc_request request = {.author = &author,
                                    .spf = spf.result,
                                    .spf_domain = spf.domain,
                                    .dkim_domains = &dkim.signatures[0].domain,
                                    .dkim_domain_count = 1};
    dmarc_check(&resolver, &request, message.arena, &dmarc);
    check(spf.result == SPF_PASS && dkim.result == DKIM_PASS && dmarc.result == DMARC_PASS);
    check(dmarc.spf_aligned && dmarc.dkim_aligned);
    struct auth_results results = {.authserv_id = STR("mx.example.net"), .count = 3};
    results.results[0] = (struct auth_result){.method = STR("spf"), .result = STR("pass")};
    auth_result_add(&results.results[0], "smtp", "mailfrom", sender.sender);
    results.results[1] = (struct auth_result){.method = STR("dkim"), .result = STR("pass")};
    auth_result_add(&results.results[1], "header", "d", dkim.signatures[0].domain);
    results.results[2] = (struct auth_result){.method = STR("dmarc"), .result = STR("pass")};
    auth_result_add(&results.results[2], "header", "from", dmarc.author_domain);
    struct buf field BUF_CLEANUP;
    buf_init(&field, FILE_SIZE_MAX);
    auth_results_write(&field, &results);
    message_close(&message);
}

static const unsigned char hash[SHA256_SIZE] = "thirty-two octets, any will do.";

static const EVP_MD *raw_digest(const struct bench *bench)
{
    return EVP_PKEY_base_id(bench->raw) == EVP_PKEY_ED25519 ? NULL : EVP_sha256();
}

static void raw_sign(struct bench *bench)
{
    unsigned char signature[SIGN_BYTES_MAX];
    size_t len = sizeof signature;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    check(EVP_DigestSignInit(context, NULL, raw_digest(bench), NULL, bench->raw) == 1);
    check(EVP_DigestSign(context, signature, &len, hash, sizeof hash) == 1);
    EVP_MD_CTX_free(context);
}

static double cpu_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void measure(const char *name, struct bench *bench, void (*work)(struct bench *bench))
{
    double best = 0;
    work(bench);
    for (int batch = 0; batch < BATCHES; batch++) {
        double start = cpu_us();
        for (int i = 0; i < BATCH; i++)
            work(bench);
        double each = (cpu_us() - start) / BATCH;
        best = batch == 0 || each < best ? each : best;
    }
    printf("%s %s\t%.1f\n", name, bench->selector, best);
}

static void read_key(struct bench *bench, const char *kind)
{
    char name[64];
    struct error err;
    struct buf pem BUF_CLEANUP;
    bench->selector = kind;
    snprintf(name, sizeof name, "%s.pem", kind);
    read_file(bench->folder, name, &pem);
    check(sign_key_private(buf_str(&pem), &bench->key, &err) == OK);
    BIO *bio = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    bench->raw = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    check(bench->raw != NULL);
    BIO_free(bio);
    snprintf(name, sizeof name, "message.%s", kind);
    read_file(bench->folder, name, &bench->signed_message);
}

/* ---- a name server ---- */

/* Behind the name of the question; its text goes to `name`, which has room for what a packet has.
 */
static size_t read_name(const unsigned char *packet, size_t len, struct buf *name)
{
    size_t at = 12;
    while (at < len && packet[at]) {
        size_t end = at + 1 + packet[at];
        check(end < len);
        if (name->len)
            buf_append_byte(name, '.');
        buf_append(name, str_of((const char *)packet + at + 1, end - at - 1));
        at = end;
    }
    return at + 1;
}

static void append_number(struct buf *out, unsigned value, unsigned octets)
{
    while (octets--)
        buf_append_byte(out, (char)(value >> 8 * octets));
}

/* One TXT record for a day, or none. */
static void answer_question(struct buf *zone, const unsigned char *packet, size_t len,
                            struct buf *out)
{
    struct buf name BUF_CLEANUP;
    struct arena *arena = arena_new(0);
    struct dns_text_answer found;
    struct error err;
    buf_init(&name, FILE_SIZE_MAX);
    size_t end = read_name(packet, len, &name) + 4;
    check(end <= len && look_up(zone, buf_str(&name), arena, &found, &err) == OK);
    buf_append(out, str_of((const char *)packet, 2));
    append_number(out, found.count ? 0x8580 : 0x8583, 2);
    append_number(out, 1, 2);
    append_number(out, (unsigned)found.count, 2);
    append_number(out, 0, 4);
    buf_append(out, str_of((const char *)packet + 12, end - 12));
    if (found.count) {
        struct str text = found.texts[0];
        unsigned strings = (unsigned)(text.len + 249) / 250;
        append_number(out, 0xc00c, 2);
        append_number(out, 16 << 16 | 1, 4);
        append_number(out, 86400, 4);
        append_number(out, (unsigned)text.len + strings, 2);
        for (; text.len; text = str_from(text, text.len < 250 ? text.len : 250)) {
            struct str piece = str_slice(text, 0, text.len < 250 ? text.len : 250);
            append_number(out, (unsigned)piece.len, 1);
            buf_append(out, piece);
        }
    }
    arena_free(arena);
}

static void serve(int fd, struct buf *zone)
{
    for (;;) {
        unsigned char packet[4096];
        struct sockaddr_in client;
        socklen_t size = sizeof client;
        ssize_t len = recvfrom(fd, packet, sizeof packet, 0, (struct sockaddr *)&client, &size);
        if (len < 17)
            continue;
        struct buf out BUF_CLEANUP;
        buf_init(&out, FILE_SIZE_MAX);
        answer_question(zone, packet, (size_t)len, &out);
        (void)sendto(fd, out.ptr, out.len, 0, (struct sockaddr *)&client, size);
    }
}

/* In a process of its own, for its time is not ours; *out_address is where it listens. */
static pid_t start_server(struct buf *zone, struct net_address *out_address)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    check(fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0);
    check(getsockname(fd, (struct sockaddr *)&address, &size) == 0);
    *out_address = (struct net_address){.ip = {.family = 4, .bytes = {127, 0, 0, 1}},
                                        .port = ntohs(address.sin_port)};
    pid_t pid = fork();
    check(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve(fd, zone);
    }
    close(fd);
    return pid;
}

static NO_YIELD_CHECK void measure_cached(void *arg)
{
    measure("cached", arg, verify_all);
}

static void measure_with_dns(struct bench *bench)
{
    struct net_address server;
    struct error err;
    struct test_loop loop;
    pid_t pid = start_server(&bench->zone, &server);
    struct dns_settings settings = {.servers = &server, .server_count = 1};
    test_loop_open(&loop, NULL);
    check(dns_new(loop.loop, &settings, &bench->dns, &err) == OK);
    test_loop_spawn(&loop, measure_cached, bench);
    test_loop_run(&loop);
    dns_free(bench->dns);
    bench->dns = NULL;
    test_loop_close(&loop);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static int run(const char *folder)
{
    struct bench bench = {.folder = folder};
    read_file(folder, "message", &bench.message);
    read_file(folder, "zone", &bench.zone);
    for (int i = 0; i < 2; i++) {
        read_key(&bench, i ? "ed25519" : "rsa");
        measure("raw", &bench, raw_sign);
        measure("sign", &bench, sign);
        measure("verify", &bench, verify);
        measure("all", &bench, verify_all);
        measure_with_dns(&bench);
        EVP_PKEY_free(bench.raw);
        sign_key_free(bench.key);
        buf_done(&bench.signed_message);
    }
    buf_done(&bench.message);
    buf_done(&bench.zone);
    return 0;
}

/* ---- preparing ---- */

static void make_message(struct buf *out)
{
    buf_append(out, STR("From: Ann <ann@example.org>\r\nTo: Bob <bob@example.net>\r\n"
                        "Subject: A message of four kilobytes\r\n"
                        "Date: Fri, 27 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n"
                        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"));
    while (out->len < MESSAGE_SIZE)
        buf_append(out, STR("A line of a letter, with words  and blanks of usual length.\r\n"));
}

static NO_YIELD_CHECK void prepare_kind(const char *folder, enum sign_kind kind, const char *name,
                                        const struct buf *text, struct buf *zone)
{
    struct sign_key *key;
    struct error err;
    struct message message;
    struct str field;
    char file[64];
    struct buf pem BUF_CLEANUP;
    struct buf signed_text BUF_CLEANUP;
    buf_init(&pem, FILE_SIZE_MAX);
    buf_init(&signed_text, FILE_SIZE_MAX);
    check(sign_key_generate(kind, 2048, &key, &err) == OK);
    check(sign_key_private_text(key, &pem, &err) == OK);
    snprintf(file, sizeof file, "%s.pem", name);
    write_file(folder, file, buf_str(&pem));
    buf_append(zone, str_c(name));
    buf_append(zone, STR("._domainkey.example.org\t"));
    check(dkim_key_record(key, zone, &err) == OK);
    buf_append(zone, STR("\n"));
    struct dkim_signer signer = {.domain = STR("example.org"),
                                 .selector = str_c(name),
                                 .key = key,
                                 .header = DKIM_RELAXED,
                                 .body = DKIM_RELAXED};
    message_open(&message, text);
    check(dkim_sign(&message.dkim, &signer, message.arena, &field, &err) == OK);
    buf_append(&signed_text, field);
    buf_append(&signed_text, buf_str(text));
    message_close(&message);
    snprintf(file, sizeof file, "message.%s", name);
    write_file(folder, file, buf_str(&signed_text));
    sign_key_free(key);
}

static int prepare(const char *folder)
{
    struct buf message BUF_CLEANUP;
    struct buf zone BUF_CLEANUP;
    buf_init(&message, FILE_SIZE_MAX);
    buf_init(&zone, FILE_SIZE_MAX);
    make_message(&message);
    write_file(folder, "message", buf_str(&message));
    buf_append(&zone, STR("example.org\tv=spf1 include:_spf.example.org -all\n"
                          "_spf.example.org\tv=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all\n"
                          "_dmarc.example.org\tv=DMARC1; p=reject; rua=mailto:d@example.org\n"));
    prepare_kind(folder, SIGN_RSA, "rsa", &message, &zone);
    prepare_kind(folder, SIGN_ED25519, "ed25519", &message, &zone);
    write_file(folder, "zone", buf_str(&zone));
    return 0;
}

int main(int count, char **arguments)
{
    if (count == 3 && strcmp(arguments[1], "prepare") == 0)
        return prepare(arguments[2]);
    if (count == 3 && strcmp(arguments[1], "run") == 0)
        return run(arguments[2]);
    fprintf(stderr, "usage: bench-content prepare FOLDER | run FOLDER\n");
    return 2;
}
