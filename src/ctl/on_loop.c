/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/on_loop.c - straight code that waits, for a command that has no loop of its own. */
#include "ctl/ctl.h"
#include "fiber/loop.h"

struct errand {
    void (*run)(struct loop *loop, void *arg);
    void *arg;
    struct loop *loop;
};

static MAY_YIELD void run(void *arg)
{
    struct errand *errand = arg;
    errand->run(errand->loop, errand->arg);
    loop_stop(errand->loop);
}

enum result ctl_on_loop(void (*run_it)(struct loop *loop, void *arg), void *arg, struct error *err)
{
    struct errand errand = {.run = run_it, .arg = arg};
    struct scope scope;
    if (loop_new(NULL, &errand.loop, err) != OK)
        return FAILED;
    scope_init_root(&scope, errand.loop);
    enum result result = fiber_spawn(&scope, "command", run, &errand, err);
    if (result == OK)
        loop_run(errand.loop);
    loop_free(errand.loop);
    return result;
}
