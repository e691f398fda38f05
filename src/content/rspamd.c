/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/rspamd.c - rspamd's /checkv2: the message as the body of a POST, the envelope as fields.
 *
 * A connection a question: its end is the answer's.
 */
#include "net/http.h"
#include "content/spam_internal.h"

#include <math.h>

struct symbol {
    const char *name;
    double score;
};

void rspamd_write_head(const struct spam_question *question, const struct server_endpoint *endpoint,
                       uint64_t size, struct buf *out)
{
    http_write_request(STR("POST"), endpoint, STR("/checkv2"), out);
    buf_printf(out, "Content-Length: %llu\r\n", (unsigned long long)size);
    http_write_field(out, "Queue-Id", question->message_id);
    http_write_field(out, "IP", question->client);
    http_write_field(out, "Hostname", question->client_name);
    http_write_field(out, "Helo", question->helo);
    http_write_field(out, "User", question->user);
    http_write_field(out, "MTA-Name", question->hostname);
    http_write_field(out, "From", question->sender.len ? question->sender : STR("<>"));
    for (size_t i = 0; i < question->recipient_count; i++)
        http_write_field(out, "Rcpt", question->recipients[i]);
    http_write_field(out, "Password", question->password);
    buf_append(out, STR("\r\n"));
}

static enum spam_action read_action(const char *text)
{
    static const struct {
        const char *word;
        enum spam_action action;
    } words[] = {{"reject", SPAM_REJECT},      {"soft reject", SPAM_DEFER},
                 {"greylist", SPAM_DEFER},     {"rewrite subject", SPAM_TAG},
                 {"add header", SPAM_TAG},     {"quarantine", SPAM_TAG},
                 {"no action", SPAM_NO_ACTION}};
    for (size_t i = 0; text && i < sizeof words / sizeof *words; i++)
        if (strcmp(text, words[i].word) == 0)
            return words[i].action;
    return SPAM_NO_ACTION;
}

static int by_weight(const void *a, const void *b)
{
    double x = fabs(((const struct symbol *)a)->score);
    double y = fabs(((const struct symbol *)b)->score);
    return x < y ? 1 : x > y ? -1 : 0;
}

static struct str read_symbols(json_t *object, struct arena *arena)
{
    struct symbol *symbols = arena_alloc_array(arena, SPAM_SYMBOLS_MAX, sizeof *symbols);
    size_t count = 0;
    const char *name;
    json_t *symbol;
    json_object_foreach(object, name, symbol)
    {
        double score = json_number_value(json_object_get(symbol, "score"));
        if (count < SPAM_SYMBOLS_MAX && score != 0)
            symbols[count++] = (struct symbol){name, score};
    }
    qsort(symbols, count, sizeof *symbols, by_weight);
    struct buf text BUF_CLEANUP;
    buf_init(&text, 4096);
    for (size_t i = 0; i < count && i < SPAM_SYMBOLS_SHOWN; i++)
        buf_printf(&text, "%s%.100s(%.2f)", i ? " " : "", symbols[i].name, symbols[i].score);
    return arena_str(arena, buf_str(&text));
}

enum result rspamd_read_answer(struct str text, struct arena *arena, struct spam_answer *out,
                               struct error *err)
{
    struct http_answer answer;
    json_t *root;
    *out = (struct spam_answer){.symbols = STR_EMPTY};
    if (http_read_answer(text, arena, &answer, err) != OK)
        return FAILED;
    if (answer.status != 200)
        return fail(err, ERROR_TEMPORARY, "rspamd said \"%.*s\"", STR_ARG(answer.reason));
    if (http_read_json(answer.body, &root, err) != OK)
        return FAILED;
    json_t *score = json_object_get(root, "score");
    if (!json_is_number(score)) {
        json_t *error = json_object_get(root, "error");
        (void)fail(err, ERROR_TEMPORARY, "the answer has no score%s%.200s",
                   json_is_string(error) ? ": " : "",
                   json_is_string(error) ? json_string_value(error) : "");
        json_decref(root);
        return FAILED;
    }
    out->score = json_number_value(score);
    out->required = json_number_value(json_object_get(root, "required_score"));
    out->action = read_action(json_string_value(json_object_get(root, "action")));
    out->symbols = read_symbols(json_object_get(root, "symbols"), arena);
    json_decref(root);
    return OK;
}
