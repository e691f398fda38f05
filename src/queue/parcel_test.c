/* SPDX-License-Identifier: Apache-2.0 */
/* queue/parcel_test.c - what is kept in memory for a first attempt is charged for what it takes. */
#include "base/test.h"

#include "queue/worker.h"

#include <stdlib.h>
#include <string.h>

enum { LARGE = 1024 * 1024 };

static void release(struct body *body)
{
    free(body);
}

static const struct body_ops file_ops = {.release = release};

/* As one of the spool, which lies in a file. */
static struct body *file_new(uint64_t size)
{
    struct body *body = calloc(1, sizeof *body);
    assert_non_null(body);
    body->ops = &file_ops;
    atomic_init(&body->references, 1);
    body->size = size;
    return body;
}

NO_YIELD_CHECK static struct body *memory_new(size_t size)
{
    struct error err;
    struct body *body = body_memory_new(size);
    char *bytes = malloc(size);
    assert_non_null(bytes);
    memset(bytes, 'x', size);
    assert_int_equal(body_append(body, str_of(bytes, size), &err), OK);
    assert_int_equal(body_seal(body, &err), OK);
    free(bytes);
    return body;
}

static void charges_what_it_takes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool in_memory;
        size_t size;
        uint64_t charged, files;
    } cases[] = {
        {"small", true, 1000, 1000 + 6, 0},
        {"small, of the spool", false, 1000, 1000 + 6, 0},
        {"large, made by a step", true, LARGE, LARGE + 6, 0},
        {"large, of the spool", false, LARGE, 6, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct queue queue = {0};
        struct body *body =
            cases[i].in_memory ? memory_new(cases[i].size) : file_new(cases[i].size);
        struct mail_content content = {.head = STR("A: b\r\n"), .body = body};
        struct queue_parcel *parcel = queue_parcel_new(&queue, &content);
        body_unref(body);
        if (queue.memory_used != cases[i].charged || queue.large_kept != cases[i].files)
            fail_msg("%s: %llu bytes, %llu files", cases[i].name,
                     (unsigned long long)queue.memory_used, (unsigned long long)queue.large_kept);
        queue_parcel_unref(parcel);
        assert_int_equal(queue.memory_used, 0);
        assert_int_equal(queue.large_kept, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(charges_what_it_takes)};
    return cmocka_run_group_tests_name("queue-parcel", tests, NULL, NULL);
}
