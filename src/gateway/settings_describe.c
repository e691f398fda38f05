/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/settings_describe.c - the settings for people and editors: effective values, JSON Schema,
 * manual. All of it comes from the rows. */
#include "gateway/settings_internal.h"

#include "base/buf.h"

/* Sections of names: what `top` shows as a node is shown by its rows instead. */
static const struct {
    const char *name;
    const struct option_table *table;
    const char *presets; /* words of `preset`, as JSON, or NULL */
} sections[] = {
    {"servers", &server_options, NULL},
    {"certificates", &settings_certificate_options, NULL},
    {"dkim_keys", &signing_key_options, NULL},
    {"listeners", &settings_listener_options, "\"mx\",\"submission\",\"submissions\""},
    {"transports", &transport_options, NULL},
    {"domains", &settings_domain_options, "\"relay-authenticated\""},
    {"quarantines", &settings_quarantine_options, NULL},
    {"webhooks", &webhook_options, NULL},
};
enum { SECTION_COUNT = sizeof sections / sizeof *sections };

/* ---- effective values ---- */

static bool has_own_form(struct str name)
{
    for (size_t i = 0; i < SECTION_COUNT; i++) {
        if (str_equal(name, str_c(sections[i].name)))
            return true;
    }
    return str_equal(name, STR("flows"));
}

static void print_entry(const struct option_table *table, struct str name, const void *values,
                        const struct config_node *node, struct buf *out)
{
    buf_append(out, STR("  "));
    option_print_text(name, out);
    buf_append(out, STR(":\n"));
    option_effective(table, values, node, 4, out);
}

/* A table with some rows left out, so that what is shown could be read again. */
struct part {
    struct option rows[64];
    struct option_table table;
};

static void make_part(struct part *part, const struct option_table *table,
                      bool (*keeps)(const void *object, struct str key), const void *object)
{
    size_t count = 0;
    for (const struct option *row = table->options; row->name && count < 63; row++) {
        if (keeps(object, str_c(row->name)))
            part->rows[count++] = *row;
    }
    part->rows[count] = (struct option){0};
    part->table = *table;
    part->table.options = part->rows;
}

static bool server_keeps(const void *object, struct str key)
{
    return server_has_key(object, key);
}

static bool transport_keeps(const void *object, struct str key)
{
    const struct transport *transport = object;
    return transport->method == TRANSPORT_LOOKUP_MX ||
           !(str_equal(key, STR("tls")) || str_equal(key, STR("port")));
}

static bool top_keeps(const void *object, struct str key)
{
    (void)object;
    return !has_own_form(key);
}

static void print_top(const struct settings *settings, struct buf *out)
{
    struct part part;
    make_part(&part, &settings_top_options, top_keeps, NULL);
    option_effective(&part.table, settings, &settings->hidden->root, 0, out);
}

static void print_servers(const struct settings *settings, struct buf *out)
{
    const struct config_node *section = config_get(&settings->hidden->root, STR("servers"));
    for (size_t i = 0; i < settings->server_count; i++) {
        const struct server *at = &settings->servers[i];
        struct part part;
        make_part(&part, &server_options, server_keeps, at);
        print_entry(&part.table, at->name, at, config_get(section, at->name), out);
    }
}

static void print_transports(const struct settings *settings, struct buf *out)
{
    const struct config_node *section = config_get(&settings->hidden->root, STR("transports"));
    for (size_t i = 0; i < settings->transport_count; i++) {
        const struct transport *at = &settings->transports[i];
        struct part part;
        make_part(&part, &transport_options, transport_keeps, at);
        print_entry(&part.table, at->name, at, config_get(section, at->name), out);
    }
}

static void print_flow(const struct config_pair *flow, struct buf *out)
{
    buf_append(out, STR("    "));
    option_print_text(flow->key, out);
    if (flow->value.kind != CONFIG_LIST || flow->value.count == 0) {
        buf_append(out, STR(": "));
        option_print_node(&flow->value, out);
        option_print_origin(&flow->value, out);
        return;
    }
    buf_append(out, STR(":\n"));
    for (size_t i = 0; i < flow->value.count; i++) {
        buf_append(out, STR("      - "));
        option_print_node(&flow->value.items[i], out);
        option_print_origin(&flow->value.items[i], out);
    }
}

/* As they were written, a line a step; what a block does by default: `postern block doc`. */
static void print_flows(const struct settings *settings, struct buf *out)
{
    const struct config_node *flows = config_get(&settings->hidden->root, STR("flows"));
    if (!flows || flows->kind != CONFIG_MAP || flows->count == 0)
        return;
    buf_append(out, STR("flows:\n"));
    for (size_t type = 0; type < flows->count; type++) {
        const struct config_node *section = &flows->pairs[type].value;
        if (section->kind != CONFIG_MAP || section->count == 0)
            continue;
        buf_printf(out, "  %.*s:\n", STR_ARG(flows->pairs[type].key));
        for (size_t i = 0; i < section->count; i++)
            print_flow(&section->pairs[i], out);
    }
}

static void print_header(const char *section, size_t count, struct buf *out)
{
    if (count)
        buf_printf(out, "%s:\n", section);
}

void settings_effective(const struct settings *settings, struct buf *out)
{
    print_top(settings, out);
    print_header("servers", settings->server_count, out);
    print_servers(settings, out);
    print_header("certificates", settings->certificate_count, out);
    for (size_t i = 0; i < settings->certificate_count; i++) {
        const struct settings_certificate *at = &settings->certificates[i];
        print_entry(&settings_certificate_options, at->name, at, at->node, out);
    }
    print_header("dkim_keys", settings->dkim_keys.count, out);
    for (size_t i = 0; i < settings->dkim_keys.count; i++) {
        const struct signing_key *at = &settings->dkim_keys.items[i];
        print_entry(&signing_key_options, at->name, at, at->node, out);
    }
    print_header("listeners", settings->listener_count, out);
    for (size_t i = 0; i < settings->listener_count; i++) {
        const struct settings_listener *at = &settings->listeners[i];
        print_entry(&settings_listener_options, at->name, at->values, at->node, out);
    }
    print_flows(settings, out);
    print_header("transports", settings->transport_count, out);
    print_transports(settings, out);
    print_header("domains", settings->domain_count, out);
    for (size_t i = 0; i < settings->domain_count; i++) {
        const struct settings_domain *at = &settings->domains[i];
        print_entry(&settings_domain_options, at->name, at->values, at->node, out);
    }
    print_header("quarantines", settings->quarantine_count, out);
    for (size_t i = 0; i < settings->quarantine_count; i++) {
        const struct settings_quarantine *at = &settings->quarantines[i];
        print_entry(&settings_quarantine_options, at->name, at, at->node, out);
    }
    print_header("webhooks", settings->webhook_count, out);
    for (size_t i = 0; i < settings->webhook_count; i++) {
        const struct webhook_settings *at = &settings->webhooks[i];
        print_entry(&webhook_options, at->name, at, at->node, out);
    }
}

/* ---- JSON Schema ---- */

static void schema_description(const struct option *row, struct buf *out)
{
    buf_append(out, STR("{\"description\":"));
    option_print_json(str_c(row->text), out);
    buf_append_byte(out, ',');
}

static void schema_object(const struct option_table *table, struct buf *out);

/* Rows whose node the module reads itself, or that may hold more than a name. False: neither. */
static bool schema_special(const struct option_table *table, const struct option *row,
                           struct buf *out)
{
    struct str name = str_c(row->name);
    bool is_domain = table == &settings_domain_options;
    bool recipients = str_equal(name, STR("recipients"));
    if (is_domain && str_equal(name, STR("transport"))) {
        schema_description(row, out);
        buf_append(out, STR("\"anyOf\":[{\"type\":\"string\"},"));
        option_schema(&transport_options, out);
    } else if ((is_domain || table == &settings_listener_options) &&
               (recipients || str_equal(name, STR("content")))) {
        schema_description(row, out);
        buf_append(out, STR("\"anyOf\":[{\"type\":\"string\"},"));
        flow_schema_flow(recipients ? FLOW_RECIPIENT : FLOW_CONTENT, out);
    } else if (row->type == OPTION_NODE && str_equal(name, STR("authentication"))) {
        schema_description(row, out);
        buf_append(out, STR("\"anyOf\":[{\"type\":\"string\"},"));
        schema_object(&settings_authentication_options, out);
        buf_append(out, STR(",{\"$ref\":\"#/$defs/authentication-steps\"}"));
    } else if (table == &settings_authentication_options && row->type == OPTION_NODE) {
        schema_description(row, out);
        buf_append(out, STR("\"anyOf\":[{\"type\":\"string\"},"));
        flow_schema_flow(FLOW_AUTHENTICATION, out);
    } else {
        return false;
    }
    buf_append(out, STR("]}"));
    return true;
}

static void schema_rows(const struct option_table *table, struct buf *out)
{
    for (const struct option *row = table->options; row->name; row++) {
        const struct option one[2] = {*row, {0}};
        const struct option_table part = {.name = row->name, .options = one};
        if (row != table->options)
            buf_append_byte(out, ',');
        struct buf special BUF_CLEANUP;
        buf_init(&special, 1 << 20);
        if (schema_special(table, row, &special))
            buf_printf(out, "\"%s\":%.*s", row->name, (int)special.len, special.ptr);
        else
            option_schema_rows(&part, out);
    }
}

static void schema_object(const struct option_table *table, struct buf *out)
{
    buf_append(out, STR("{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{"));
    schema_rows(table, out);
    buf_append_byte(out, '}');
    option_schema_required(table, out);
    buf_append_byte(out, '}');
}

/* An entry of a section; where there are presets, a map with one is the other form. */
static void schema_entry(const struct option_table *table, const char *presets, struct buf *out)
{
    buf_append(out, STR("{\"anyOf\":["));
    if (option_schema_shorthand(table, out))
        buf_append_byte(out, ',');
    schema_object(table, out);
    if (presets) {
        buf_printf(out,
                   ",{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"preset\"],"
                   "\"properties\":{\"preset\":{\"enum\":[%s]},",
                   presets);
        schema_rows(table, out);
        buf_append(out, STR("}}"));
    }
    buf_append(out, STR("]}"));
}

static void schema_section(struct str name, struct buf *out)
{
    const struct option_table *table = NULL;
    const char *presets = NULL;
    for (size_t i = 0; i < SECTION_COUNT; i++) {
        if (!str_equal(name, str_c(sections[i].name)))
            continue;
        table = sections[i].table;
        presets = sections[i].presets;
    }
    if (str_equal(name, STR("lists")))
        table = &settings_list_options;
    if (str_equal(name, STR("providers")))
        table = &settings_provider_options;
    if (table) {
        buf_append(out, STR("{\"type\":[\"object\",\"null\"],\"additionalProperties\":"));
        schema_entry(table, presets, out);
        buf_append_byte(out, '}');
    } else if (str_equal(name, STR("trusted_networks"))) {
        buf_append(out, STR("{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":"));
        option_schema(&settings_network_options, out);
        buf_append(out, STR("}]}"));
    } else if (str_equal(name, STR("flows"))) {
        flow_schema(out);
    } else { /* its module reads it: a map, as far as the rows know */
        buf_append(out, STR("{\"type\":\"object\"}"));
    }
}

/* The top table as a schema, with nodes replaced by the schemas of their sections. */
void settings_schema(struct buf *out)
{
    buf_append(out, STR("{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\","
                        "\"title\":\"Postern configuration\",\"type\":\"object\","
                        "\"additionalProperties\":false,\"required\":[\"version\"],"
                        "\"properties\":{"));
    for (const struct option *row = settings_top_options.options; row->name; row++) {
        const struct option one[2] = {*row, {0}};
        const struct option_table table = {.name = row->name, .options = one};
        if (row != settings_top_options.options)
            buf_append_byte(out, ',');
        if (row->type == OPTION_NODE) {
            buf_printf(out, "\"%s\":", row->name);
            schema_section(str_c(row->name), out);
        } else {
            option_schema_rows(&table, out);
        }
    }
    buf_append(out, STR("},\"$defs\":{"));
    flow_schema_steps(out);
    buf_append(out, STR("}}\n"));
}

/* ---- manual ---- */

void settings_manual(struct buf *out)
{
    option_manual(&settings_top_options, out);
    for (size_t i = 0; i < SECTION_COUNT; i++)
        option_manual(sections[i].table, out);
    option_manual(&settings_authentication_options, out);
    option_manual(&settings_list_options, out);
    option_manual(&settings_provider_options, out);
    option_manual(&settings_network_options, out);
}
