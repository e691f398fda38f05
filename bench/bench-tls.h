/* A TLS 1.3 client (RFC 8446) for load generators: one suite, one group, no checks of the peer.
 *
 * OpenSSL's client takes longer over a handshake than any server: it reads certificates, verifies
 * signatures and makes keys. A generator on the same machine as what it measures would then measure
 * itself. This one has a key pair for all connections, reads no certificate and verifies of the
 * server only that both came to the same keys (its Finished). What the server does is a whole
 * handshake, as for any client: own key pair, key agreement, signature, tickets if it likes. */
#ifndef BENCH_TLS_H
#define BENCH_TLS_H
#define OPENSSL_SUPPRESS_DEPRECATED /* SHA384_Init: one call, where EVP looks for an algorithm */
#include "bench.h"
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

enum {
    HASH = 48,                        /* SHA-384 */
    KEY = 32,                         /* AES-256-GCM */
    IV = 12,
    TAG = 16,
    RECORD_HEAD = 5,
    RECORD_MAX = 16384,
    RECORD_RAW_MAX = RECORD_HEAD + RECORD_MAX + 256,
    REC_CCS = 20, REC_ALERT = 21, REC_HANDSHAKE = 22, REC_DATA = 23,
    HS_SERVER_HELLO = 2, HS_TICKET = 4, HS_EXTENSIONS = 8, HS_CERTIFICATE = 11,
    HS_VERIFY = 15, HS_FINISHED = 20,
};

struct traffic {                      /* one direction: key, and the number of the next record */
    EVP_CIPHER_CTX *cipher;           /* NULL: in clear */
    unsigned char iv[IV];
    uint64_t seq;
};

struct lean_tls {
    int fd;
    bool is_ready;
    bool is_drained;                  /* the last read got all there was; cleared by an event */
    SHA512_CTX transcript;
    unsigned char master[HASH], client_secret[HASH], server_secret[HASH];
    struct traffic in, out;
    unsigned char *raw;               /* what came, from raw_at */
    size_t raw_at, raw_len, raw_cap;
    unsigned char *plain;             /* in raw: data that was not handed out */
    size_t plain_len;
    unsigned char *flight;            /* handshake messages of the server, in pieces */
    size_t flight_len, flight_cap;
    unsigned char *wire;              /* records that were not sent yet */
    size_t wire_at, wire_len, wire_cap;
};

static struct {
    EVP_PKEY *key;                    /* ours, for every connection */
    EVP_PKEY_CTX *derive;
    EVP_CIPHER *aes;
    unsigned char share[32], derived[HASH], empty_hash[HASH];
} lean;

/* ---- key schedule (RFC 8446, 7.1) ---- */

static void lean_hmac(const unsigned char *key, size_t key_len, const unsigned char *a,
                      size_t a_len, const unsigned char *b, size_t b_len, unsigned char out[HASH])
{
    unsigned char pad[128], inner[HASH];
    SHA512_CTX h;
    memset(pad, 0x36, sizeof pad);
    for (size_t i = 0; i < key_len; i++)
        pad[i] ^= key[i];
    SHA384_Init(&h);
    SHA384_Update(&h, pad, sizeof pad);
    SHA384_Update(&h, a, a_len);
    SHA384_Update(&h, b, b_len);
    SHA384_Final(inner, &h);
    for (size_t i = 0; i < sizeof pad; i++)
        pad[i] ^= 0x36 ^ 0x5c;
    SHA384_Init(&h);
    SHA384_Update(&h, pad, sizeof pad);
    SHA384_Update(&h, inner, sizeof inner);
    SHA384_Final(out, &h);
}

/* HKDF-Expand-Label; no output is longer than a hash, so one round is enough. */
static void lean_expand(const unsigned char secret[HASH], const char *label,
                        const unsigned char *context, size_t context_len, unsigned char *out,
                        size_t out_len)
{
    unsigned char info[128], whole[HASH], one = 1;
    size_t n = strlen(label), at = 0;
    info[at++] = 0;
    info[at++] = (unsigned char)out_len;
    info[at++] = (unsigned char)(6 + n);
    memcpy(info + at, "tls13 ", 6), at += 6;
    memcpy(info + at, label, n), at += n;
    info[at++] = (unsigned char)context_len;
    if (context_len)
        memcpy(info + at, context, context_len), at += context_len;
    lean_hmac(secret, HASH, info, at, &one, 1, whole);
    memcpy(out, whole, out_len);
}

static void lean_hash_now(const struct lean_tls *t, unsigned char out[HASH])
{
    SHA512_CTX copy = t->transcript;
    SHA384_Final(out, &copy);
}

static void lean_use(struct traffic *way, const unsigned char secret[HASH])
{
    unsigned char key[KEY];
    lean_expand(secret, "key", NULL, 0, key, KEY);
    lean_expand(secret, "iv", NULL, 0, way->iv, IV);
    way->seq = 0;
    if (!way->cipher)
        way->cipher = EVP_CIPHER_CTX_new();
    EVP_CipherInit_ex(way->cipher, lean.aes, NULL, key, NULL, -1);
}

/* Once for the run. */
UNUSED static void lean_init(void)
{
    static const unsigned char zero[HASH];
    unsigned char early[HASH];
    size_t n = sizeof lean.share;
    lean.key = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
    lean.aes = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    if (!lean.key || !lean.aes || EVP_PKEY_get_raw_public_key(lean.key, lean.share, &n) != 1)
        die("OpenSSL has no X25519 or AES-256-GCM");
    lean.derive = EVP_PKEY_CTX_new(lean.key, NULL);
    if (EVP_PKEY_derive_init(lean.derive) != 1)
        die("cannot derive keys");
    SHA384(zero, 0, lean.empty_hash);
    lean_hmac(zero, HASH, zero, HASH, NULL, 0, early);
    lean_expand(early, "derived", lean.empty_hash, HASH, lean.derived, HASH);
}

/* From the server's share to the keys of the handshake, and on to the master secret. */
static bool lean_agree(struct lean_tls *t, const unsigned char share[32])
{
    static const unsigned char zero[HASH];
    unsigned char shared[32], now[HASH], hs[HASH], next[HASH];
    size_t n = sizeof shared;
    EVP_PKEY *peer = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, share, 32);
    bool is_ok = peer && EVP_PKEY_derive_set_peer(lean.derive, peer) == 1 &&
                 EVP_PKEY_derive(lean.derive, shared, &n) == 1;
    EVP_PKEY_free(peer);
    if (!is_ok)
        return false;
    lean_hash_now(t, now);
    lean_hmac(lean.derived, HASH, shared, sizeof shared, NULL, 0, hs);
    lean_expand(hs, "c hs traffic", now, HASH, t->client_secret, HASH);
    lean_expand(hs, "s hs traffic", now, HASH, t->server_secret, HASH);
    lean_expand(hs, "derived", lean.empty_hash, HASH, next, HASH);
    lean_hmac(next, HASH, zero, HASH, NULL, 0, t->master);
    lean_use(&t->in, t->server_secret);
    lean_use(&t->out, t->client_secret);
    return true;
}

/* ---- records ---- */

static void *lean_room(unsigned char **buf, size_t *cap, size_t need)
{
    if (*cap < need) {
        *cap = need + need / 2;
        *buf = xrealloc(*buf, *cap);
    }
    return *buf;
}

static void lean_nonce(struct traffic *way, unsigned char nonce[IV])
{
    memcpy(nonce, way->iv, IV);
    for (int i = 0; i < 8; i++)
        nonce[IV - 1 - i] ^= (unsigned char)(way->seq >> (8 * i));
    way->seq++;
}

/* Adds a record to what is to be sent; encrypted once there are keys. */
static void lean_record(struct lean_tls *t, unsigned char type, const void *data, size_t n)
{
    struct traffic *way = &t->out;
    size_t len = way->cipher ? n + 1 + TAG : n;
    lean_room(&t->wire, &t->wire_cap, t->wire_len + RECORD_HEAD + len);
    unsigned char *head = t->wire + t->wire_len, *body = head + RECORD_HEAD, nonce[IV];
    head[0] = way->cipher ? REC_DATA : type;
    head[1] = 3, head[2] = 3;
    head[3] = (unsigned char)(len >> 8), head[4] = (unsigned char)len;
    t->wire_len += RECORD_HEAD + len;
    memcpy(body, data, n);
    if (!way->cipher)
        return;
    int k;
    body[n] = type;
    lean_nonce(way, nonce);
    EVP_EncryptInit_ex(way->cipher, NULL, NULL, NULL, nonce);
    EVP_EncryptUpdate(way->cipher, NULL, &k, head, RECORD_HEAD);
    EVP_EncryptUpdate(way->cipher, body, &k, body, (int)n + 1);
    EVP_EncryptFinal_ex(way->cipher, body + n + 1, &k);
    EVP_CIPHER_CTX_ctrl(way->cipher, EVP_CTRL_AEAD_GET_TAG, TAG, body + n + 1);
}

/* Sends what is waiting: 1, or IO_AGAIN, IO_FAIL. */
UNUSED static ssize_t lean_flush(struct lean_tls *t)
{
    while (t->wire_at < t->wire_len) {
        ssize_t n = io_write(t->fd, NULL, (char *)t->wire + t->wire_at, t->wire_len - t->wire_at);
        if (n < 0)
            return n;
        t->wire_at += (size_t)n;
    }
    t->wire_at = t->wire_len = 0;
    return 1;
}

/* The next record, opened in place: 1 with its type and text; 0 the end, or IO_*. */
static ssize_t lean_next(struct lean_tls *t, unsigned char *type, unsigned char **text, size_t *len)
{
    for (;;) {
        unsigned char *head = t->raw + t->raw_at;
        size_t have = t->raw_len - t->raw_at;
        size_t whole = have < RECORD_HEAD ? RECORD_HEAD : RECORD_HEAD + (head[3] << 8 | head[4]);
        if (whole > RECORD_RAW_MAX)
            return IO_FAIL;
        if (have >= RECORD_HEAD && have >= whole) {
            t->raw_at += whole;
            *type = head[0], *text = head + RECORD_HEAD, *len = whole - RECORD_HEAD;
            break;
        }
        if (t->raw_at)
            memmove(t->raw, head, have);
        t->raw_at = 0, t->raw_len = have;
        lean_room(&t->raw, &t->raw_cap, whole > 4096 ? whole : 4096);
        if (t->is_drained)
            return IO_AGAIN;
        size_t room = t->raw_cap - have;
        ssize_t n = io_read(t->fd, NULL, (char *)t->raw + have, room);
        if (n <= 0)
            return n;
        t->is_drained = (size_t)n < room;
        t->raw_len += (size_t)n;
    }
    if (*type != REC_DATA || !t->in.cipher)
        return 1;
    unsigned char nonce[IV];
    int k;
    if (*len < TAG + 1)
        return IO_FAIL;
    *len -= TAG;
    lean_nonce(&t->in, nonce);
    EVP_DecryptInit_ex(t->in.cipher, NULL, NULL, NULL, nonce);
    EVP_CIPHER_CTX_ctrl(t->in.cipher, EVP_CTRL_AEAD_SET_TAG, TAG, *text + *len);
    EVP_DecryptUpdate(t->in.cipher, NULL, &k, *text - RECORD_HEAD, RECORD_HEAD);
    EVP_DecryptUpdate(t->in.cipher, *text, &k, *text, (int)*len);
    if (EVP_DecryptFinal_ex(t->in.cipher, *text + *len, &k) != 1)
        return IO_FAIL;
    while (*len && !(*text)[*len - 1])
        --*len;                       /* padding */
    if (!*len)
        return IO_FAIL;
    *type = (*text)[--*len];
    return 1;
}

/* ---- handshake ---- */

static void lean_put(unsigned char **p, const void *data, size_t n)
{
    memcpy(*p, data, n);
    *p += n;
}

static void lean_client_hello(struct lean_tls *t)
{
    static const unsigned char suites[] = {0, 2, 0x13, 0x02, 1, 0}; /* AES_256_GCM_SHA384 */
    static const unsigned char extensions[] = {
        0, 43, 0, 3, 2, 3, 4,                             /* supported_versions: 1.3 */
        0, 10, 0, 4, 0, 2, 0, 29,                         /* supported_groups: x25519 */
        0, 13, 0, 18, 0, 16, 4, 3, 5, 3, 6, 3, 8, 7, 8, 4, 8, 5, 8, 6, 4, 1, /* signatures */
        0, 45, 0, 2, 1, 1,                                /* psk_key_exchange_modes: dhe */
        0, 51, 0, 38, 0, 36, 0, 29, 0, 32};               /* key_share: x25519, then the key */
    unsigned char hello[256], *p = hello + 4;
    lean_put(&p, "\3\3", 2);
    RAND_bytes(p, 32), p += 32;
    *p++ = 32;                        /* a session id, as middleboxes know it */
    RAND_bytes(p, 32), p += 32;
    lean_put(&p, suites, sizeof suites);
    *p++ = 0, *p++ = sizeof extensions + 32;
    lean_put(&p, extensions, sizeof extensions);
    lean_put(&p, lean.share, 32);
    size_t n = (size_t)(p - hello) - 4;
    hello[0] = 1, hello[1] = 0, hello[2] = (unsigned char)(n >> 8), hello[3] = (unsigned char)n;
    SHA384_Init(&t->transcript);
    SHA384_Update(&t->transcript, hello, n + 4);
    lean_record(t, REC_HANDSHAKE, hello, n + 4);
}

UNUSED static struct lean_tls *lean_new(int fd)
{
    struct lean_tls *t = xrealloc(NULL, sizeof *t);
    memset(t, 0, sizeof *t);
    t->fd = fd;
    lean_client_hello(t);
    return t;
}

UNUSED static void lean_free(struct lean_tls *t)
{
    if (!t)
        return;
    EVP_CIPHER_CTX_free(t->in.cipher);
    EVP_CIPHER_CTX_free(t->out.cipher);
    free(t->raw), free(t->flight), free(t->wire), free(t);
}

/* The server's share of the key, or NULL: it wants another group, suite or version. */
static const unsigned char *lean_share_of(const unsigned char *m, size_t n)
{
    static const unsigned char retry[] = {0xcf, 0x21, 0xad, 0x74};
    if (n < 35 || memcmp(m + 2, retry, sizeof retry) == 0)
        return NULL;
    size_t at = 35u + m[34];
    if (at + 5 > n || m[at] != 0x13 || m[at + 1] != 0x02)
        return NULL;
    for (at += 5; at + 4 <= n;) {
        unsigned kind = m[at] << 8 | m[at + 1], len = m[at + 2] << 8 | m[at + 3];
        at += 4;
        if (at + len > n)
            return NULL;
        if (kind == 51)
            return len == 36 && m[at + 1] == 29 ? m + at + 4 : NULL;
        at += len;
    }
    return NULL;
}

/* The server's Finished: check it, answer it, change to the keys of the application. */
static bool lean_finish(struct lean_tls *t, const unsigned char *m, size_t n)
{
    unsigned char key[HASH], now[HASH], proof[HASH], message[4 + HASH] = {HS_FINISHED, 0, 0, HASH};
    lean_hash_now(t, now);
    lean_expand(t->server_secret, "finished", NULL, 0, key, HASH);
    lean_hmac(key, HASH, now, HASH, NULL, 0, proof);
    if (n != HASH || memcmp(proof, m, HASH) != 0)
        return false;
    SHA384_Update(&t->transcript, (unsigned char[]){HS_FINISHED, 0, 0, HASH}, 4);
    SHA384_Update(&t->transcript, m, n);
    lean_hash_now(t, now);
    lean_expand(t->client_secret, "finished", NULL, 0, key, HASH);
    lean_hmac(key, HASH, now, HASH, NULL, 0, message + 4);
    lean_record(t, REC_HANDSHAKE, message, sizeof message);
    lean_expand(t->master, "c ap traffic", now, HASH, t->client_secret, HASH);
    lean_expand(t->master, "s ap traffic", now, HASH, t->server_secret, HASH);
    lean_use(&t->out, t->client_secret);
    lean_use(&t->in, t->server_secret);
    t->is_ready = true;
    return true;
}

static bool lean_message(struct lean_tls *t, const unsigned char *m, size_t n)
{
    unsigned kind = m[0];
    if (kind == HS_SERVER_HELLO && !t->in.cipher) {
        const unsigned char *share = lean_share_of(m + 4, n - 4);
        SHA384_Update(&t->transcript, m, n);
        return share && lean_agree(t, share);
    }
    if (!t->in.cipher || t->is_ready)
        return kind == HS_TICKET && t->is_ready;
    if (kind == HS_FINISHED)
        return lean_finish(t, m + 4, n - 4);
    SHA384_Update(&t->transcript, m, n);
    return kind == HS_EXTENSIONS || kind == HS_CERTIFICATE || kind == HS_VERIFY;
}

/* Messages may be cut anywhere by records. */
static bool lean_messages(struct lean_tls *t, const unsigned char *text, size_t len)
{
    size_t at = 0;
    lean_room(&t->flight, &t->flight_cap, t->flight_len + len);
    memcpy(t->flight + t->flight_len, text, len);
    t->flight_len += len;
    while (t->flight_len - at >= 4) {
        const unsigned char *m = t->flight + at;
        size_t n = 4 + ((size_t)m[1] << 16 | (size_t)m[2] << 8 | m[3]);
        if (t->flight_len - at < n)
            break;
        if (!lean_message(t, m, n))
            return false;
        at += n;
    }
    t->flight_len -= at;
    memmove(t->flight, t->flight + at, t->flight_len);
    return t->flight_len < 1 << 17;
}

/* 1 done, IO_AGAIN, or the end: 0, IO_FAIL. */
UNUSED static ssize_t lean_handshake(struct lean_tls *t)
{
    while (!t->is_ready) {
        unsigned char type, *text;
        size_t len;
        ssize_t n = lean_flush(t);
        if (n != 1 || (n = lean_next(t, &type, &text, &len)) != 1)
            return n;
        if (type == REC_CCS)
            continue;
        if (type != REC_HANDSHAKE || !lean_messages(t, text, len))
            return IO_FAIL;
    }
    free(t->flight);
    t->flight = NULL, t->flight_len = t->flight_cap = 0;
    return lean_flush(t);
}

/* ---- data: as io_read and io_write ---- */

UNUSED static ssize_t lean_read(struct lean_tls *t, char *buf, size_t n)
{
    while (!t->plain_len) {
        unsigned char type, *text;
        size_t len;
        ssize_t r = lean_next(t, &type, &text, &len);
        if (r != 1)
            return r;
        if (type == REC_ALERT)
            return len == 2 && text[1] == 0 ? 0 : IO_FAIL;
        if (type == REC_HANDSHAKE ? !lean_messages(t, text, len) : type != REC_DATA)
            return IO_FAIL;
        if (type == REC_DATA)
            t->plain = text, t->plain_len = len;
    }
    if (n > t->plain_len)
        n = t->plain_len;
    memcpy(buf, t->plain, n);
    t->plain += n, t->plain_len -= n;
    return (ssize_t)n;
}

/* Puts data into records; they leave with lean_flush. */
UNUSED static void lean_put_data(struct lean_tls *t, const char *buf, size_t n)
{
    for (size_t k; n; buf += k, n -= k) {
        k = n < RECORD_MAX ? n : RECORD_MAX;
        lean_record(t, REC_DATA, buf, k);
    }
}
#endif
