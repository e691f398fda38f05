/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server's bytes, in two pieces: whatever they are, a reply that comes out is harmless text.
 */
#include "base/check.h"
#include "smtp/reply_parser.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_reply(const struct mail_reply *reply)
{
    check(reply->code >= 200 && reply->code <= 599);
    check(reply->enhanced.class == 0 || reply->enhanced.class == reply->code / 100);
    for (size_t i = 0; i < reply->text.len; i++) {
        unsigned char byte = (unsigned char)reply->text.ptr[i];
        check(byte == '\n' || (byte >= 0x20 && byte != 0x7F));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct smtp_reply_parser parser;
    struct str input = str_of((const char *)data, size);
    size_t begin = 0;
    size_t end = size / 2;
    smtp_reply_parser_init(&parser);
    for (;;) {
        enum smtp_reply_progress progress;
        struct mail_reply reply;
        struct error err;
        size_t used = 0;
        if (smtp_reply_feed(&parser, str_slice(input, begin, end), &used, &progress, &reply,
                            &err) != OK)
            break;
        check(used <= end - begin);
        begin += used;
        if (progress == SMTP_REPLY_COMPLETE)
            check_reply(&reply);
        else if (end == size)
            break;
        else
            end = size;
    }
    smtp_reply_parser_done(&parser);
    return 0;
}
