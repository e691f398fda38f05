/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/script.h - scripts of the administrator in flows: what they see (`mail`) and whom they can
 * ask (`postern`). The functions stand in tables, from which the manual is made.
 *
 * Shared by the block `script`, the hooks around attempts of delivery, and their rows.
 */
#pragma once

#include "net/http.h"
#include "flow/flow_internal.h"
#include "script/script.h"

enum { /* where a row exists: sets of flow types, as FLOW_IN_…, and */
       FLOW_BEFORE_ATTEMPT = 8,
       FLOW_AFTER_ATTEMPT = 16,
       FLOW_AT_ATTEMPT = FLOW_BEFORE_ATTEMPT | FLOW_AFTER_ATTEMPT,
       FLOW_IN_FLOWS = FLOW_IN_AUTHENTICATION | FLOW_IN_RECIPIENT | FLOW_IN_CONTENT,
       FLOW_EVERYWHERE = FLOW_IN_FLOWS | FLOW_AT_ATTEMPT,
};

/* What one run may ask and change. */
enum {
    FLOW_SCRIPT_QUESTIONS = 40, /* of DNS */
    FLOW_SCRIPT_LOOKUPS = 50,
    FLOW_SCRIPT_REQUESTS = 10, /* by HTTP */
    FLOW_SCRIPT_CHANGES = 1000,
    FLOW_SCRIPT_LINES = 100, /* in the log */
};

/* A script as it is used somewhere: compiled, with the names that it may use. In the arena of the
 * configuration. */
struct flow_script {
    const struct script *script;
    struct str function;
    struct str path;
    struct script_limits limits;
    struct option_texts transports; /* that it may choose */
    bool any_domain; /* recipients may get addresses in domains that are not listed */
    bool rewrites;   /* its text names a row that gives recipients; else those rows refuse */
    enum flow_type type;
    const struct server *servers;
    size_t server_count;
    const struct flow_list *lists;
    size_t list_count;
    struct str *quarantines;
    size_t quarantine_count;
};

/* One run: what its rows work on. */
struct flow_scripting {
    struct flow_running *running; /* its facts and run are there in attempts, too */
    const struct flow_step *step; /* NULL: an attempt */
    const struct flow_script *script;
    struct str place; /* for the log: the step, or the transport */
    bool observe;
    bool authenticated; /* a backend said yes to the login of this run */
    struct resolver resolver;
    unsigned lookups, requests, changes, lines;
    const struct flow_attempt *attempt;
};

extern const struct script_row flow_mail_rows[];
extern const struct script_row flow_postern_rows[];

/* Compile the file; problems go to the report, at their place in it. NULL: there were some. */
const struct script *flow_script_load(const struct flow_compile_context *context, struct str path,
                                      struct config_place place, unsigned where);
/* Does its text name a row that gives recipients? The proof of relay safety goes by that. */
bool flow_script_rewrites(const struct script *script);
/* The function must be there; a problem if it is not. */
bool flow_script_check_function(const struct flow_compile_context *context,
                                const struct script *script, struct str path, struct str function,
                                struct config_place place);
/* Run it; FAILED: `outcome->fault`. */
enum result flow_script_run(struct flow_scripting *scripting, unsigned where,
                            struct script_outcome *outcome) MAY_YIELD;
/* The fault with its traceback on one line, for a trace. */
struct str flow_script_fault(const struct script_fault *fault, struct arena *arena);

/* A request to a server with http:, one of its addresses or the next (script_http_server.c). */
struct flow_script_request {
    const struct server *server;
    struct str method;
    struct str path;   /* empty: as in the server's URL */
    struct str fields; /* lines, each with its end */
    struct str body;
    int64_t timeout_ns;
    size_t answer_max;
};
/* In the call's arena. FAILED: no answer. */
enum result flow_script_ask_server(struct script_call *call,
                                   const struct flow_script_request *request,
                                   struct http_answer *out, struct error *err) MAY_YIELD;

/* script_http.c: the row `http`. */
enum result flow_script_http(struct script_call *call, struct error *err) MAY_YIELD;
