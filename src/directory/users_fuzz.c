/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A users file of any bytes: every user of the table can be found, and none has an impossible
 * login.
 */
#include "base/check.h"
#include "directory/users.h"
#include "directory/watched_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str content = str_of((const char *)data, size);
    struct watched_table *table = users_parse(STR("fuzz"), content);
    atomic_store(&table->references, 1);
    struct str line;
    while (str_split(&content, '\n', &line)) {
        struct users_line parsed;
        if (users_parse_line(line, &parsed) != USERS_LINE_USER)
            continue;
        check(users_login_is_valid(parsed.login));
        const struct user *user = users_find(table, parsed.login);
        check(user && user->hash.len && user->sender_count <= USERS_SENDERS_MAX);
    }
    watched_table_unref(table);
    return 0;
}
