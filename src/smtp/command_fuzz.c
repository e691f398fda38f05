/* SPDX-License-Identifier: Apache-2.0 */
/* smtp/command_fuzz.c - any bytes as a command line with its path and parameters. */
#include "base/check.h"
#include "smtp/address.h"
#include "smtp/command.h"
#include "smtp/parameter.h"
#include "smtp/sasl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(struct str part, struct str whole)
{
    check(part.len == 0 || (part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len));
}

static void try_path(struct arena *arena, struct str arguments, bool sender)
{
    struct str path;
    struct str parameters;
    struct mail_sender from = {.envid = STR_EMPTY};
    struct mail_recipient to = {.orcpt = STR_EMPTY};
    struct mail_address address;
    struct mail_reply fault = {.code = 0};
    if (!smtp_command_path(arguments, sender ? STR("FROM") : STR("TO"), &path, &parameters))
        return;
    inside(path, arguments);
    inside(parameters, arguments);
    struct smtp_address_rules rules = {.smtputf8 = true};
    if (sender) {
        if (!smtp_parameter_mail(parameters, arena, &from, &fault))
            check(mail_reply_is_permanent(&fault));
        for (size_t i = 0; i < from.envid.len; i++)
            check(from.envid.ptr[i] >= 32 && from.envid.ptr[i] < 127);
        (void)smtp_address_sender(arena, path, from.smtputf8, &address, &fault);
        return;
    }
    if (!smtp_parameter_recipient(parameters, true, arena, &to, &fault))
        check(mail_reply_is_permanent(&fault));
    for (size_t i = 0; i < to.orcpt.len; i++)
        check((unsigned char)to.orcpt.ptr[i] >= 32 && to.orcpt.ptr[i] != 127);
    (void)smtp_address_recipient(arena, path, &rules, &address, &fault);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(0);
    struct str line = str_of((const char *)data, size);
    struct smtp_command command = smtp_command_parse(line);
    inside(command.name, line);
    inside(command.arguments, line);
    try_path(arena, command.arguments, true);
    try_path(arena, command.arguments, false);
    uint64_t chunk;
    bool last;
    if (smtp_command_chunk(command.arguments, &chunk, &last))
        check(chunk <= INT64_MAX);
    struct smtp_sasl sasl;
    struct str challenge;
    smtp_sasl_init(&sasl, size & 1 ? SMTP_SASL_PLAIN : SMTP_SASL_LOGIN, 12288);
    if (smtp_sasl_feed(&sasl, command.arguments, &challenge) == SMTP_SASL_CHALLENGE)
        (void)smtp_sasl_feed(&sasl, command.name, &challenge);
    smtp_sasl_wipe(&sasl);
    arena_free(arena);
    return 0;
}
