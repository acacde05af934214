/* What a worker needs to know to reach this server: its URL, as redis-py reads it, made of the server's settings. */
#include "reaching.h"

#include <string.h>

/* A setting's value, to be freed; empty when there is no such setting, or no CONFIG (renamed). */
char *reaching_config(RedisModuleCtx *ctx, const char *name) {
    char *value = NULL;
    RedisModuleCallReply *reply = RedisModule_Call(ctx, "CONFIG", "cc", "GET", name);
    if (reply != NULL && RedisModule_CallReplyType(reply) == REDISMODULE_REPLY_ARRAY &&
        RedisModule_CallReplyLength(reply) > 1) {
        Slice slice;
        slice.bytes = RedisModule_CallReplyStringPtr(RedisModule_CallReplyArrayElement(reply, 1), &slice.len);
        if (slice.bytes != NULL) value = slice_copy(slice);
    }
    if (reply != NULL) RedisModule_FreeCallReply(reply);
    return value != NULL ? value : slice_copy((Slice){"", 0});
}

/* A slash ends the password in a URL, but not a path. */
static void add_escaped(Text *url, const char *text, bool is_path) {
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                     c == '-' || c == '_' || (c == '/' && is_path);
        text_printf(url, plain ? "%c" : "%%%02X", c);
    }
}

/* The first address that the server is bound to, as a worker on this machine reaches it. */
static void add_host(RedisModuleCtx *ctx, Text *url) {
    char *bind = reaching_config(ctx, "bind");
    char *host = bind[0] == '-' ? bind + 1 : bind;
    host[strcspn(host, " ")] = '\0';
    bool any = host[0] == '\0' || strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
    text_printf(url, !any && strchr(host, ':') != NULL ? "[%s]" : "%s", any ? "127.0.0.1" : host);
    RedisModule_Free(bind);
}

static void add_option(Text *url, const char *name, const char *value) {
    if (value[0] == '\0') return;
    text_printf(url, "%s=", name);
    add_escaped(url, value, false);
    text_printf(url, "&");
}

/* A setting for connections that this server opens, or else the one for those that it takes. */
static char *config_either(RedisModuleCtx *ctx, const char *first, const char *second) {
    char *value = reaching_config(ctx, first);
    if (value[0] != '\0') return value;
    RedisModule_Free(value);
    return reaching_config(ctx, second);
}

/* Paths may be relative: to the folder of the server, in which its workers start. */
static void add_tls(RedisModuleCtx *ctx, Text *url) {
    char *authority = reaching_config(ctx, "tls-ca-cert-file"), *authorities = reaching_config(ctx, "tls-ca-cert-dir");
    char *asks = reaching_config(ctx, "tls-auth-clients");
    /* The worker comes by an address of this machine, which is in few certificates. */
    text_printf(url, "?ssl_check_hostname=false&");
    add_option(url, "ssl_ca_certs", authority);
    add_option(url, "ssl_ca_path", authorities);
    if (strcmp(asks, "no") != 0) {
        char *certificate = config_either(ctx, "tls-client-cert-file", "tls-cert-file");
        char *key = config_either(ctx, "tls-client-key-file", "tls-key-file");
        char *password = config_either(ctx, "tls-client-key-file-pass", "tls-key-file-pass");
        add_option(url, "ssl_certfile", certificate);
        add_option(url, "ssl_keyfile", key);
        add_option(url, "ssl_password", password);
        RedisModule_Free(certificate);
        RedisModule_Free(key);
        RedisModule_Free(password);
    }
    RedisModule_Free(authority);
    RedisModule_Free(authorities);
    RedisModule_Free(asks);
}

Text reaching_url(RedisModuleCtx *ctx) {
    Text url = {0};
    if (shard.worker_url != NULL) {
        text_add(&url, shard.worker_url, strlen(shard.worker_url));
        return url;
    }
    char *socket = reaching_config(ctx, "unixsocket"), *password = reaching_config(ctx, "requirepass");
    char *port = reaching_config(ctx, "port"), *tls_port = reaching_config(ctx, "tls-port");
    bool tls = strcmp(port, "0") == 0;
    /* Who comes by the socket is told the other shards' plain ports, of which such a cluster has none. */
    bool by_socket = socket[0] != '\0' && !(tls && shard.cluster);
    text_printf(&url, "%s", by_socket ? "unix://" : tls ? "rediss://" : "redis://");
    if (password[0] != '\0') {
        text_printf(&url, ":");
        add_escaped(&url, password, false);
        text_printf(&url, "@");
    }
    if (by_socket) {
        if (socket[0] != '/') {
            char *dir = reaching_config(ctx, "dir");
            add_escaped(&url, dir, true);
            text_printf(&url, "/");
            RedisModule_Free(dir);
        }
        add_escaped(&url, socket, true);
    } else {
        add_host(ctx, &url);
        text_printf(&url, ":%s", tls ? tls_port : port);
        if (tls) add_tls(ctx, &url);
    }
    RedisModule_Free(socket);
    RedisModule_Free(password);
    RedisModule_Free(port);
    RedisModule_Free(tls_port);
    return url;
}

/* Without CONFIG nothing tells the port and the password. */
bool reaching_is_known(RedisModuleCtx *ctx) {
    if (shard.worker_url != NULL) return true;
    char *port = reaching_config(ctx, "port");
    bool known = port[0] != '\0';
    RedisModule_Free(port);
    return known;
}
