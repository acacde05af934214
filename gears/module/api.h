/* The part of the Redis module API that gearsync uses, declared here so that no server header is needed to build.
 *
 * API_REQUIRED lists what every supported server has (Redis 6.2 and newer, Valkey); the module refuses to load where
 * one is missing. API_OPTIONAL lists what only newer servers have; those pointers may be NULL.
 */
#ifndef GEARSYNC_API_H
#define GEARSYNC_API_H

#include <stddef.h>
#include <stdint.h>

typedef struct RedisModuleCtx RedisModuleCtx;
typedef struct RedisModuleKey RedisModuleKey;
typedef struct RedisModuleString RedisModuleString;
typedef struct RedisModuleCallReply RedisModuleCallReply;
typedef struct RedisModuleBlockedClient RedisModuleBlockedClient;
typedef struct RedisModuleInfoCtx RedisModuleInfoCtx;
typedef struct RedisModuleCommandFilter RedisModuleCommandFilter;
typedef struct RedisModuleCommandFilterCtx RedisModuleCommandFilterCtx;
typedef struct RedisModuleScanCursor RedisModuleScanCursor;
typedef struct RedisModuleUser RedisModuleUser;
typedef struct RedisModuleDict RedisModuleDict;
typedef uint64_t RedisModuleTimerID;

typedef struct {
    uint64_t ms;
    uint64_t seq;
} RedisModuleStreamID;

typedef struct {
    uint64_t id;
    uint64_t dataver;
} RedisModuleEvent;

typedef struct {
    uint64_t version;
    int32_t sync;
    int32_t dbnum;
} RedisModuleFlushInfo;

typedef struct {
    uint64_t version;
    uint64_t flags;
    uint64_t id;
    char addr[46];
    uint16_t port;
    uint16_t db;
} RedisModuleClientInfo;

typedef int (*RedisModuleCmdFunc)(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
typedef int (*RedisModuleNotificationFunc)(RedisModuleCtx *ctx, int type, const char *event, RedisModuleString *key);
typedef void (*RedisModulePostNotificationJobFunc)(RedisModuleCtx *ctx, void *pd);
typedef void (*RedisModuleEventCallback)(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data);
typedef void (*RedisModuleCommandFilterFunc)(RedisModuleCommandFilterCtx *filter);
typedef void (*RedisModuleInfoFunc)(RedisModuleInfoCtx *ctx, int for_crash_report);
typedef void (*RedisModuleTimerProc)(RedisModuleCtx *ctx, void *data);
typedef void (*RedisModuleDisconnectFunc)(RedisModuleCtx *ctx, RedisModuleBlockedClient *bc);
typedef void (*RedisModuleScanKeyCB)(RedisModuleKey *key, RedisModuleString *field, RedisModuleString *value, void *pd);

#define REDISMODULE_OK 0
#define REDISMODULE_ERR 1
#define REDISMODULE_APIVER_1 1

#define REDISMODULE_READ (1 << 0)
#define REDISMODULE_WRITE (1 << 1)
#define REDISMODULE_OPEN_KEY_NOTOUCH (1 << 16)
#define REDISMODULE_OPEN_KEY_NOEFFECTS (1 << 20) /* from 7.2 on: nothing expires, is counted or touched */

#define REDISMODULE_KEYTYPE_EMPTY 0
#define REDISMODULE_KEYTYPE_STRING 1
#define REDISMODULE_KEYTYPE_LIST 2
#define REDISMODULE_KEYTYPE_HASH 3
#define REDISMODULE_KEYTYPE_SET 4
#define REDISMODULE_KEYTYPE_ZSET 5
#define REDISMODULE_KEYTYPE_MODULE 6
#define REDISMODULE_KEYTYPE_STREAM 7

#define REDISMODULE_HASH_NONE 0
#define REDISMODULE_HASH_CFIELDS (1 << 2)
#define REDISMODULE_HASH_EXISTS (1 << 3)
#define REDISMODULE_HASH_DELETE ((RedisModuleString *)(intptr_t)1)
#define REDISMODULE_STREAM_ITERATOR_REVERSE (1 << 1)
#define REDISMODULE_STREAM_ADD_AUTOID (1 << 0)

#define REDISMODULE_REPLY_STRING 0
#define REDISMODULE_REPLY_ERROR 1
#define REDISMODULE_REPLY_INTEGER 2
#define REDISMODULE_REPLY_ARRAY 3
#define REDISMODULE_REPLY_NULL 4
#define REDISMODULE_POSTPONED_LEN (-1)
#define REDISMODULE_NO_EXPIRE (-1)

#define REDISMODULE_NOTIFY_GENERIC (1 << 2)
#define REDISMODULE_NOTIFY_STRING (1 << 3)
#define REDISMODULE_NOTIFY_LIST (1 << 4)
#define REDISMODULE_NOTIFY_SET (1 << 5)
#define REDISMODULE_NOTIFY_HASH (1 << 6)
#define REDISMODULE_NOTIFY_ZSET (1 << 7)
#define REDISMODULE_NOTIFY_EXPIRED (1 << 8)
#define REDISMODULE_NOTIFY_EVICTED (1 << 9)
#define REDISMODULE_NOTIFY_STREAM (1 << 10)
#define REDISMODULE_NOTIFY_MODULE (1 << 13)

#define REDISMODULE_CTX_FLAGS_LUA (1 << 0)
#define REDISMODULE_CTX_FLAGS_MULTI (1 << 1)
#define REDISMODULE_CTX_FLAGS_MASTER (1 << 2)
#define REDISMODULE_CTX_FLAGS_CLUSTER (1 << 5)
#define REDISMODULE_CTX_FLAGS_AOF (1 << 6)
#define REDISMODULE_CTX_FLAGS_LOADING (1 << 13)
#define REDISMODULE_CTX_FLAGS_DENY_BLOCKING (1 << 21)

#define REDISMODULE_CLIENTINFO_FLAG_MULTI (1 << 5)
#define REDISMODULE_CMDFILTER_NOSELF (1 << 0)

#define REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED 0
#define REDISMODULE_EVENT_FLUSHDB 2
#define REDISMODULE_EVENT_LOADING 3
#define REDISMODULE_EVENT_CLIENT_CHANGE 4
#define REDISMODULE_EVENT_SHUTDOWN 5
#define REDISMODULE_EVENT_CRON_LOOP 8
#define REDISMODULE_EVENT_MODULE_CHANGE 9
#define REDISMODULE_SUBEVENT_CLIENT_CHANGE_DISCONNECTED 1
#define REDISMODULE_SUBEVENT_MODULE_LOADED 0
#define REDISMODULE_SUBEVENT_ROLE_NOW_MASTER 0
#define REDISMODULE_SUBEVENT_FLUSHDB_START 0
#define REDISMODULE_SUBEVENT_FLUSHDB_END 1
#define REDISMODULE_SUBEVENT_LOADING_AOF_START 1
#define REDISMODULE_SUBEVENT_LOADING_REPL_START 2
#define REDISMODULE_SUBEVENT_LOADING_ENDED 3
#define REDISMODULE_SUBEVENT_LOADING_FAILED 4

#define API_REQUIRED(X)                                                                                                \
    X(void *, Alloc, (size_t))                                                                                         \
    X(void *, Calloc, (size_t, size_t))                                                                                \
    X(void *, Realloc, (void *, size_t))                                                                               \
    X(void, Free, (void *))                                                                                            \
    X(void, SetModuleAttribs, (RedisModuleCtx *, const char *, int, int))                                              \
    X(int, IsModuleNameBusy, (const char *))                                                                           \
    X(void, Log, (RedisModuleCtx *, const char *, const char *, ...))                                                  \
    X(int, CreateCommand, (RedisModuleCtx *, const char *, RedisModuleCmdFunc, const char *, int, int, int))           \
    X(int, WrongArity, (RedisModuleCtx *))                                                                             \
    X(int, ReplyWithLongLong, (RedisModuleCtx *, long long))                                                           \
    X(int, ReplyWithError, (RedisModuleCtx *, const char *))                                                           \
    X(int, ReplyWithSimpleString, (RedisModuleCtx *, const char *))                                                    \
    X(int, ReplyWithArray, (RedisModuleCtx *, long))                                                                   \
    X(void, ReplySetArrayLength, (RedisModuleCtx *, long))                                                             \
    X(int, ReplyWithStringBuffer, (RedisModuleCtx *, const char *, size_t))                                            \
    X(int, ReplyWithString, (RedisModuleCtx *, RedisModuleString *))                                                   \
    X(int, ReplyWithNull, (RedisModuleCtx *))                                                                          \
    X(int, GetSelectedDb, (RedisModuleCtx *))                                                                          \
    X(int, SelectDb, (RedisModuleCtx *, int))                                                                          \
    X(void *, OpenKey, (RedisModuleCtx *, RedisModuleString *, int))                                                   \
    X(void, CloseKey, (RedisModuleKey *))                                                                              \
    X(int, KeyType, (RedisModuleKey *))                                                                                \
    X(int, SetExpire, (RedisModuleKey *, long long))                                                                   \
    X(long long, GetExpire, (RedisModuleKey *))                                                                        \
    X(size_t, ValueLength, (RedisModuleKey *))                                                                         \
    X(int, DeleteKey, (RedisModuleKey *))                                                                              \
    X(int, HashGet, (RedisModuleKey *, int, ...))                                                                      \
    X(int, HashSet, (RedisModuleKey *, int, ...))                                                                      \
    X(int, ScanKey, (RedisModuleKey *, RedisModuleScanCursor *, RedisModuleScanKeyCB, void *))                         \
    X(RedisModuleScanCursor *, ScanCursorCreate, (void))                                                               \
    X(void, ScanCursorDestroy, (RedisModuleScanCursor *))                                                              \
    X(int, StreamAdd, (RedisModuleKey *, int, RedisModuleStreamID *, RedisModuleString **, long))                      \
    X(int, StreamIteratorStart, (RedisModuleKey *, int, RedisModuleStreamID *, RedisModuleStreamID *))                 \
    X(int, StreamIteratorNextID, (RedisModuleKey *, RedisModuleStreamID *, long *))                                    \
    X(int, StreamIteratorNextField, (RedisModuleKey *, RedisModuleString **, RedisModuleString **))                    \
    X(int, StreamIteratorStop, (RedisModuleKey *))                                                                     \
    X(long long, StreamTrimByID, (RedisModuleKey *, int, RedisModuleStreamID *))                                       \
    X(RedisModuleString *, CreateString, (RedisModuleCtx *, const char *, size_t))                                     \
    X(RedisModuleString *, CreateStringPrintf, (RedisModuleCtx *, const char *, ...))                                  \
    X(RedisModuleString *, CreateStringFromLongLong, (RedisModuleCtx *, long long))                                    \
    X(RedisModuleString *, CreateStringFromLongDouble, (RedisModuleCtx *, long double, int))                           \
    X(int, StringToLongDouble, (const RedisModuleString *, long double *))                                             \
    X(RedisModuleString *, HoldString, (RedisModuleCtx *, RedisModuleString *))                                        \
    X(void, FreeString, (RedisModuleCtx *, RedisModuleString *))                                                       \
    X(const char *, StringPtrLen, (const RedisModuleString *, size_t *))                                               \
    X(int, StringToLongLong, (const RedisModuleString *, long long *))                                                 \
    X(int, Replicate, (RedisModuleCtx *, const char *, const char *, ...))                                             \
    X(RedisModuleCallReply *, Call, (RedisModuleCtx *, const char *, const char *, ...))                               \
    X(void, FreeCallReply, (RedisModuleCallReply *))                                                                   \
    X(int, CallReplyType, (RedisModuleCallReply *))                                                                    \
    X(long long, CallReplyInteger, (RedisModuleCallReply *))                                                           \
    X(size_t, CallReplyLength, (RedisModuleCallReply *))                                                               \
    X(int, ReplyWithCallReply, (RedisModuleCtx *, RedisModuleCallReply *))                                             \
    X(RedisModuleCallReply *, CallReplyArrayElement, (RedisModuleCallReply *, size_t))                                 \
    X(const char *, CallReplyStringPtr, (RedisModuleCallReply *, size_t *))                                            \
    X(int, NotifyKeyspaceEvent, (RedisModuleCtx *, int, const char *, RedisModuleString *))                            \
    X(int, SubscribeToKeyspaceEvents, (RedisModuleCtx *, int, RedisModuleNotificationFunc))                            \
    X(int, SubscribeToServerEvent, (RedisModuleCtx *, RedisModuleEvent, RedisModuleEventCallback))                     \
    X(int, StopTimer, (RedisModuleCtx *, RedisModuleTimerID, void **))                                                 \
    X(RedisModuleTimerID, CreateTimer, (RedisModuleCtx *, long long, RedisModuleTimerProc, void *))                    \
    X(RedisModuleBlockedClient *, BlockClient,                                                                         \
      (RedisModuleCtx *, RedisModuleCmdFunc, RedisModuleCmdFunc, void (*)(RedisModuleCtx *, void *), long long))       \
    X(int, UnblockClient, (RedisModuleBlockedClient *, void *))                                                        \
    X(RedisModuleBlockedClient *, GetBlockedClientHandle, (RedisModuleCtx *))                                          \
    X(void *, GetBlockedClientPrivateData, (RedisModuleCtx *))                                                         \
    X(void, SetDisconnectCallback, (RedisModuleBlockedClient *, RedisModuleDisconnectFunc))                            \
    X(int, RegisterInfoFunc, (RedisModuleCtx *, RedisModuleInfoFunc))                                                  \
    X(int, InfoAddSection, (RedisModuleInfoCtx *, const char *))                                                       \
    X(int, InfoAddFieldCString, (RedisModuleInfoCtx *, const char *, const char *))                                    \
    X(int, InfoAddFieldLongLong, (RedisModuleInfoCtx *, const char *, long long))                                      \
    X(int, InfoAddFieldULongLong, (RedisModuleInfoCtx *, const char *, unsigned long long))                            \
    X(RedisModuleCommandFilter *, RegisterCommandFilter, (RedisModuleCtx *, RedisModuleCommandFilterFunc, int))        \
    X(int, UnregisterCommandFilter, (RedisModuleCtx *, RedisModuleCommandFilter *))                                    \
    X(int, CommandFilterArgsCount, (RedisModuleCommandFilterCtx *))                                                    \
    X(RedisModuleString *, CommandFilterArgGet, (RedisModuleCommandFilterCtx *, int))                                  \
    X(int, CommandFilterArgInsert, (RedisModuleCommandFilterCtx *, int, RedisModuleString *))                          \
    X(int, CommandFilterArgReplace, (RedisModuleCommandFilterCtx *, int, RedisModuleString *))                         \
    X(int, CommandFilterArgDelete, (RedisModuleCommandFilterCtx *, int))                                               \
    X(int *, GetCommandKeys, (RedisModuleCtx *, RedisModuleString **, int, int *))                                     \
    X(int, IsKeysPositionRequest, (RedisModuleCtx *))                                                                  \
    X(void, KeyAtPos, (RedisModuleCtx *, int))                                                                         \
    X(const char *, CallReplyProto, (RedisModuleCallReply *, size_t *))                                                \
    X(RedisModuleDict *, CreateDict, (RedisModuleCtx *))                                                               \
    X(void, FreeDict, (RedisModuleCtx *, RedisModuleDict *))                                                           \
    X(int, DictSetC, (RedisModuleDict *, const void *, size_t, void *))                                                \
    X(void *, DictGetC, (RedisModuleDict *, const void *, size_t, int *))                                              \
    X(int, DictDelC, (RedisModuleDict *, const void *, size_t, void *))                                                \
    X(int, GetContextFlags, (RedisModuleCtx *))                                                                        \
    X(float, GetUsedMemoryRatio, (void))                                                                               \
    X(int, AvoidReplicaTraffic, (void))                                                                                \
    X(long long, Milliseconds, (void))                                                                                 \
    X(const char *, GetMyClusterID, (void))                                                                            \
    X(int, SignalModifiedKey, (RedisModuleCtx *, RedisModuleString *))                                                 \
    X(void, GetRandomHexChars, (char *, size_t))                                                                       \
    X(int, GetServerVersion, (void))                                                                                   \
    X(RedisModuleCtx *, GetDetachedThreadSafeContext, (RedisModuleCtx *))                                              \
    X(void, FreeThreadSafeContext, (RedisModuleCtx *))                                                                 \
    X(int, GetClientInfoById, (void *, uint64_t))                                                                      \
    X(unsigned long long, GetClientId, (RedisModuleCtx *))                                                             \
    X(RedisModuleString *, GetClientUserNameById, (RedisModuleCtx *, uint64_t))

#define API_OPTIONAL(X)                                                                                                \
    X(int, AddPostNotificationJob, (RedisModuleCtx *, RedisModulePostNotificationJobFunc, void *, void (*)(void *)))   \
    X(unsigned long long, CommandFilterGetClientId, (RedisModuleCommandFilterCtx *))                                   \
    X(int, GetDbIdFromModuleKey, (RedisModuleKey *))                                                                   \
    X(int *, GetCommandKeysWithFlags, (RedisModuleCtx *, RedisModuleString **, int, int *, int **))                    \
    X(void, KeyAtPosWithFlags, (RedisModuleCtx *, int, int))                                                           \
    X(RedisModuleUser *, GetModuleUserFromUserName, (RedisModuleString *))                                             \
    X(void, FreeModuleUser, (RedisModuleUser *))                                                                       \
    X(int, ACLCheckCommandPermissions, (RedisModuleUser *, RedisModuleString **, int))

#define API_DECLARE(type, name, args) extern type(*RedisModule_##name) args;
API_REQUIRED(API_DECLARE)
API_OPTIONAL(API_DECLARE)
#undef API_DECLARE

/* Resolves every pointer above. NULL, or the name of the first required function that the server lacks. */
const char *api_resolve(RedisModuleCtx *ctx);

void api_free_theirs(void *memory); /* what the server allocated and left to us */

#endif
