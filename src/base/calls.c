/* SPDX-License-Identifier: Apache-2.0 */
#include "base/calls.h"

#include <errno.h>
#include <seccomp.h>

static uint32_t action_of(int error_number)
{
    return error_number ? SCMP_ACT_ERRNO((uint32_t)error_number) : SCMP_ACT_ALLOW;
}

/* 0, or a negative errno. */
static int add(scmp_filter_ctx filter, const struct call_rule *rule)
{
    int call = seccomp_syscall_resolve_name(rule->name);
    uint32_t action = action_of(rule->error);
    if (call == __NR_SCMP_ERROR)
        return 0;
    switch (rule->test) {
    case CALL_ALWAYS:
        break;
    case CALL_IF_BITS:
        return seccomp_rule_add(
            filter, action, call, 1,
            SCMP_CMP(rule->argument, SCMP_CMP_MASKED_EQ, rule->mask, rule->value));
    case CALL_IF_EQUAL:
        return seccomp_rule_add(filter, action, call, 1,
                                SCMP_CMP(rule->argument, SCMP_CMP_EQ, rule->value, 0));
    case CALL_IF_GREATER:
        return seccomp_rule_add(filter, action, call, 1,
                                SCMP_CMP(rule->argument, SCMP_CMP_GT, rule->value, 0));
    }
    int result = seccomp_rule_add(filter, action, call, 0);
    return result == -EDOM ? 0 : result; /* known by name only, elsewhere */
}

enum result calls_filter(const struct call_rule *rules, size_t count, int otherwise,
                         struct error *err)
{
    scmp_filter_ctx filter = seccomp_init(action_of(otherwise));
    if (!filter)
        return fail(err, ERROR_TEMPORARY, "cannot make a filter of system calls");
    int failure = 0;
    for (size_t i = 0; failure == 0 && i < count; i++)
        failure = add(filter, &rules[i]);
    if (failure == 0)
        failure = seccomp_load(filter);
    seccomp_release(filter);
    return failure == 0 ? OK : fail_errno(err, -failure, "cannot filter system calls");
}
