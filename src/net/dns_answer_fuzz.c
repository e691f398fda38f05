/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: answers of name servers. First byte: the type asked for; then the packet, whose own
 * question is taken as what was asked.
 */
#include "net/dns_answer.h"

#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The question as text, so that the parser gets beyond it. */
static struct str question_of(const uint8_t *packet, size_t size, char out[DNS_NAME_TEXT])
{
    size_t at = 12, len = 0;
    while (at < size && packet[at] && packet[at] < 64 && packet[at] < size - at) {
        for (size_t i = 1; i <= packet[at] && len < DNS_NAME_TEXT - 2; i++)
            out[len++] = (char)packet[at + i];
        out[len++] = '.';
        at += 1u + packet[at];
        if (len > 255)
            break;
    }
    return str_of(out, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum dns_type types[] = {DNS_A, DNS_AAAA, DNS_MX, DNS_TXT, DNS_PTR};
    char question[DNS_NAME_TEXT];
    if (size < 1 || size > 65536)
        return 0;
    struct arena *arena = arena_new(0);
    struct dns_answer answer;
    struct error err;
    struct str packet = {(const char *)data + 1, size - 1};
    struct str name = question_of(data + 1, size - 1, question);
    if (dns_answer_parse(packet, name, types[data[0] % 5], arena, &answer, &err) == OK) {
        check((answer.status == DNS_FOUND) == (answer.count > 0));
        for (size_t i = 0; i < answer.count; i++)
            check(answer.records[i].text.len <= DNS_TEXT_MAX);
    }
    arena_free(arena);
    return 0;
}
