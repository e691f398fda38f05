/* SPDX-License-Identifier: Apache-2.0 */
/*
 * script/load.c - from a file to compiled chunks, and what is wrong with it, to the column.
 *
 * The file is run once while it is loaded: its functions come to be then, and the files that it
 * requires are found. A run later on finds compiled code only and reads nothing from a disk.
 */
#include "script/internal.h"

#include "base/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_SHOWN = 50, MODULE_NAME_MAX = 100, FUNCTIONS_MAX = 1000 };

struct source { /* a text that was read */
    struct str module, path, name, text;
};
struct script_loader {
    const struct script_loading *loading;
    struct script *script;
    struct str folder; /* empty: nothing can be required */
    struct source sources[SCRIPT_MODULES_MAX];
    size_t source_count;
    size_t consumed; /* of the text that is being compiled */
    struct source *compiling;
    struct error error;
};

/* ---- texts ---- */

static enum result read_file(struct arena *arena, struct str path, struct str *out,
                             struct error *err)
{
    char name[4096];
    struct stat status;
    if (!str_to_c(path, name, sizeof name))
        return fail(err, ERROR_PERMANENT, "the path is too long");
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fail_errno(err, errno, "%s", name);
    enum result result = OK;
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
        result = fail(err, ERROR_PERMANENT, "%s is no file", name);
    else if (status.st_size > SCRIPT_FILE_MAX)
        result = fail(err, ERROR_LIMIT, "%s is larger than %d bytes", name, SCRIPT_FILE_MAX);
    if (result == OK) {
        size_t size = (size_t)status.st_size, len = 0;
        char *text = arena_alloc(arena, size + 1);
        ssize_t got = 0;
        while (len < size && (got = read(fd, text + len, size - len)) > 0)
            len += (size_t)got;
        *out = str_of(text, len);
        if (got < 0)
            result = fail_errno(err, errno, "%s", name);
    }
    close(fd);
    return result;
}

/* ---- what is wrong, and where ---- */

static struct str line_of(struct str text, unsigned line)
{
    struct str one = STR_EMPTY;
    while (line-- > 0 && str_split(&text, '\n', &one))
        continue;
    return one;
}

/* The token that Lua stumbled over: it is the last of what was read before the error. */
static void find_column(const struct script_loader *loader, const struct source *source,
                        struct script_problem *problem)
{
    struct str text = problem->text;
    ptrdiff_t near = str_find_str(text, STR(" near '"));
    struct str line = line_of(source->text, problem->line);
    problem->column = 1;
    while (problem->column < line.len && strchr(" \t", line.ptr[problem->column - 1]))
        problem->column++;
    problem->length = line.len >= problem->column ? (unsigned)line.len - problem->column + 1 : 1;
    if (str_ends(text, STR("<eof>")) && source == loader->compiling) {
        problem->column = (unsigned)line.len + 1;
        problem->length = 1;
    }
    if (near < 0 || source != loader->compiling || !str_ends(text, STR("'")))
        return;
    struct str token = str_slice(text, (size_t)near + 7, text.len - 1);
    for (size_t end = loader->consumed; token.len && end >= token.len; end--) {
        size_t begin = end - token.len;
        if (memcmp(source->text.ptr + begin, token.ptr, token.len) != 0)
            continue;
        struct str before = str_slice(source->text, 0, begin);
        ptrdiff_t newline = str_find_last(before, '\n');
        problem->line = 1;
        for (size_t i = 0; i < before.len; i++)
            problem->line += before.ptr[i] == '\n';
        problem->column = (unsigned)(begin - (size_t)(newline + 1)) + 1;
        problem->length = (unsigned)token.len;
        return;
    }
}

/* "name:line: text" of one of our files. */
static void locate(struct script_loader *loader, struct str text, struct script_problem *out)
{
    *out = (struct script_problem){.path = STR_EMPTY, .source = STR_EMPTY, .text = text};
    for (size_t i = 0; i < loader->source_count; i++) {
        const struct source *source = &loader->sources[i];
        struct str rest = str_from(text, source->name.len);
        struct str digits;
        uint64_t line;
        if (!str_starts(text, source->name) || !str_starts(rest, STR(":")))
            continue;
        rest = str_from(rest, 1);
        if (!str_split(&rest, ':', &digits) || !rest.ptr || !str_to_uint(digits, 1 << 24, &line))
            continue;
        out->path = source->path;
        out->source = source->text;
        out->line = (unsigned)line;
        out->text = str_trim(rest);
        find_column(loader, source, out);
        return;
    }
}

/* ---- compiling ---- */

struct reading {
    struct script_loader *loader;
    struct str rest;
};

/* Byte by byte, so that an error tells how far the compiler came. */
static const char *next_byte(lua_State *L, void *context, size_t *out_size)
{
    struct reading *reading = context;
    const char *byte = reading->rest.ptr;
    (void)L;
    *out_size = reading->rest.len ? 1 : 0;
    if (!*out_size)
        return NULL;
    reading->rest = str_from(reading->rest, 1);
    reading->loader->consumed++;
    return byte;
}

static int write_code(lua_State *L, const void *data, size_t size, void *context)
{
    struct buf *code = context;
    (void)L;
    buf_append(code, str_of(data, size));
    return code->overflow;
}

/* The compiled function stays on the stack; raises the compiler's error. */
static void compile(lua_State *L, struct script_loader *loader, struct source *source)
{
    struct script *script = loader->script;
    struct reading reading = {loader, source->text};
    struct buf code;
    loader->consumed = 0;
    loader->compiling = source;
    script->uses |= script_library_uses(source->text);
    lua_pushfstring(L, "@%s", lua_pushlstring(L, source->name.ptr, source->name.len));
    if (lua_load(L, next_byte, &reading, lua_tostring(L, -1), "t") != LUA_OK)
        lua_error(L);
    loader->compiling = NULL;
    lua_replace(L, -3);
    lua_pop(L, 1);
    buf_init(&code, (size_t)16 << 20);
    (void)lua_dump(L, write_code, &code, 0); /* allocates nothing in Lua */
    struct script_chunk *chunk = &script->chunks[script->chunk_count++];
    *chunk = (struct script_chunk){.module = source->module,
                                   .path = source->path,
                                   .name = source->name,
                                   .text = source->text,
                                   .code = arena_str(loader->loading->arena, buf_str(&code))};
    buf_done(&code);
}

void script_push_chunk(lua_State *L, const struct script_chunk *chunk)
{
    lua_pushfstring(L, "@%s", lua_pushlstring(L, chunk->name.ptr, chunk->name.len));
    if (luaL_loadbufferx(L, chunk->code.ptr, chunk->code.len, lua_tostring(L, -1), "b") != LUA_OK)
        lua_error(L);
    lua_replace(L, -3);
    lua_pop(L, 1);
}

/* ---- require ---- */

static bool module_name_is_good(struct str name)
{
    bool good = name.len > 0 && name.len <= MODULE_NAME_MAX && !str_starts(name, STR(".")) &&
                !str_ends(name, STR(".")) && str_find_str(name, STR("..")) < 0;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        good = good && (ascii_is_alpha(c) || ascii_is_digit(c) || c == '-' || c == '_' || c == '.');
    }
    return good;
}

static struct str shown_name(struct arena *arena, struct str name)
{
    return arena_str(arena, name.len > NAME_SHOWN ? str_from(name, name.len - NAME_SHOWN) : name);
}

static struct source *add_source(struct script_loader *loader, struct str module, struct str path,
                                 struct str shown)
{
    struct arena *arena = loader->loading->arena;
    struct source *source = &loader->sources[loader->source_count++];
    *source = (struct source){.module = arena_str(arena, module),
                              .path = arena_str(arena, path),
                              .name = shown_name(arena, shown),
                              .text = STR_EMPTY};
    return source;
}

/* While the configuration is loaded. */
static void push_module_file(lua_State *L, struct script_loader *loader, struct str module)
{
    struct arena *arena = loader->loading->arena;
    if (!loader->folder.len)
        luaL_error(L, "nothing can be required here");
    if (loader->source_count >= SCRIPT_MODULES_MAX)
        luaL_error(L, "more than %d files are required", SCRIPT_MODULES_MAX);
    struct str file = arena_printf(arena, "%.*s.lua", STR_ARG(module));
    char *byte = (char *)(uintptr_t)file.ptr;
    for (size_t i = 0; i < module.len; i++)
        if (byte[i] == '.')
            byte[i] = '/';
    struct str path = arena_printf(arena, "%.*s%.*s", STR_ARG(loader->folder), STR_ARG(file));
    struct source *source = add_source(loader, module, path, file);
    if (read_file(arena, path, &source->text, &loader->error) != OK)
        luaL_error(L, "%s", loader->error.text);
    if (loader->loading->saw_file)
        loader->loading->saw_file(loader->loading->context, path);
    compile(L, loader, source);
}

static void push_module(lua_State *L, struct str module)
{
    struct script_sandbox *sandbox = script_sandbox_of(L);
    if (sandbox->loading) {
        push_module_file(L, sandbox->loader, module);
        return;
    }
    const struct script *script = sandbox->script;
    for (size_t i = 1; i < script->chunk_count; i++) {
        if (str_equal(script->chunks[i].module, module)) {
            script_push_chunk(L, &script->chunks[i]);
            return;
        }
    }
    luaL_error(L, "\"%s\" was not required while the file was loaded: do it at the top of the file",
               lua_tostring(L, 1));
}

int script_require(lua_State *L)
{
    static const char loaded_key = 0;
    struct str module;
    module.ptr = luaL_checklstring(L, 1, &module.len);
    if (!module_name_is_good(module))
        return luaL_error(L, "a module is named by letters, digits, - and _, with . between "
                             "folders: it is a file beside this one");
    lua_settop(L, 1);
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &loaded_key) == LUA_TNIL) {
        lua_newtable(L);
        lua_copy(L, -1, 2);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &loaded_key);
    }
    lua_pushvalue(L, 1);
    int type = lua_rawget(L, 2);
    if (type == LUA_TLIGHTUSERDATA)
        return luaL_error(L, "\"%s\" requires itself", lua_tostring(L, 1));
    if (type != LUA_TNIL)
        return 1;
    lua_settop(L, 2);
    lua_pushvalue(L, 1);
    lua_pushlightuserdata(L, NULL);
    lua_rawset(L, 2); /* it is on its way */
    push_module(L, module);
    lua_call(L, 0, 1);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushboolean(L, true);
    }
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 3);
    lua_rawset(L, 2);
    return 1;
}

/* ---- the file ---- */

static void collect_functions(lua_State *L, struct script_loader *loader)
{
    struct script *script = loader->script;
    struct arena *arena = loader->loading->arena;
    script->functions = arena_alloc_array(arena, FUNCTIONS_MAX, sizeof *script->functions);
    lua_pushglobaltable(L);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        struct str name;
        if (lua_type(L, -2) != LUA_TSTRING || !lua_isfunction(L, -1) || lua_iscfunction(L, -1) ||
            script->function_count >= FUNCTIONS_MAX)
            continue;
        name.ptr = lua_tolstring(L, -2, &name.len);
        script->functions[script->function_count++] = arena_str(arena, name);
    }
}

static int enter_loading(lua_State *L)
{
    struct script_loader *loader = script_sandbox_of(L)->loader;
    compile(L, loader, &loader->sources[0]);
    lua_call(L, 0, 0);
    collect_functions(L, loader);
    return 0;
}

/* Off a fiber nothing of it can suspend. */
static NO_YIELD_CHECK enum result load(struct script_loader *loader, struct script **out_script,
                                       struct script_problem *out_problem)
{
    const struct script_loading *loading = loader->loading;
    const struct script_limits *limits = loading->limits ? loading->limits : &script_limits_default;
    struct script_sandbox sandbox = {
        .loading = loading,
        .loader = loader,
        .globals = loading->objects,
        .global_count = loading->object_count,
        .fault = {.text = STR("the script needs more memory than it may use")},
    };
    loader->script = ARENA_NEW(loading->arena, struct script);
    loader->script->chunks =
        arena_alloc_array(loading->arena, SCRIPT_MODULES_MAX, sizeof(struct script_chunk));
    enum result result = FAILED;
    if (script_sandbox_open(&sandbox, limits))
        result = script_drive(&sandbox, enter_loading, loading->arena, 0);
    if (result != OK)
        locate(loader, sandbox.fault.text, out_problem);
    script_sandbox_close(&sandbox);
    *out_script = loader->script;
    return result;
}

enum result script_load_file(const struct script_loading *loading, struct str path,
                             struct script **out_script, struct script_problem *out_problem)
{
    struct script_loader *loader = ARENA_NEW(loading->arena, struct script_loader);
    ptrdiff_t slash = str_find_last(path, '/');
    loader->loading = loading;
    loader->folder = slash < 0 ? STR("./") : str_slice(path, 0, (size_t)slash + 1);
    struct source *source =
        add_source(loader, STR_EMPTY, path, slash < 0 ? path : str_from(path, (size_t)slash + 1));
    if (loading->saw_file)
        loading->saw_file(loading->context, source->path);
    if (read_file(loading->arena, path, &source->text, &loader->error) != OK) {
        *out_problem =
            (struct script_problem){.path = STR_EMPTY,
                                    .source = STR_EMPTY,
                                    .text = arena_str(loading->arena, str_c(loader->error.text))};
        return FAILED;
    }
    return load(loader, out_script, out_problem);
}

enum result script_load_text(const struct script_loading *loading, struct str name, struct str text,
                             struct script **out_script, struct script_problem *out_problem)
{
    struct script_loader *loader = ARENA_NEW(loading->arena, struct script_loader);
    loader->loading = loading;
    loader->folder = STR_EMPTY;
    struct source *source = add_source(loader, STR_EMPTY, name, name);
    source->text = arena_str(loading->arena, text);
    return load(loader, out_script, out_problem);
}

bool script_has_function(const struct script *script, struct str name)
{
    for (size_t i = 0; i < script->function_count; i++)
        if (str_equal(script->functions[i], name))
            return true;
    return false;
}

bool script_mentions(const struct script *script, struct str word)
{
    for (size_t i = 0; i < script->chunk_count; i++)
        if (str_find_str(script->chunks[i].text, word) >= 0)
            return true;
    return false;
}

bool script_source(const struct script *script, size_t index, struct str *out)
{
    if (index >= script->chunk_count)
        return false;
    *out = script->chunks[index].text;
    return true;
}

const struct str *script_functions(const struct script *script, size_t *out_count)
{
    *out_count = script->function_count;
    return script->functions;
}
