"""The Lua scripts of `RedisStore`: each verb is one step in the server."""

from __future__ import annotations

from .wire import Script

# Times have 13 digits, so that as texts they compare as numbers do.
_COMMON = """
local now = ARGV[1]
local function time(number) return string.format('%013.0f', math.min(number, 9999999999999)) end
local function ours(value)
  return type(value) == 'string' and string.find(value, 'HEADER')
end
local function read(...)
  local value = redis.pcall(...)
  if type(value) == 'table' and not string.find(value.err, 'WRONGTYPE', 1, true) then redis.call(...) end
  return value
end
local function is_live(value) return ours(value) and string.sub(value, 3, 15) > now end
local function version(value) return string.sub(value, 16, 23) end
local function user_of(value)
  local size, start = string.match(value, '^%d+;(%d+);()', 24)
  return size and string.sub(value, start + 13, start + 12 + size)
end
local function index(set, handle, ttl)
  local span = 2 * ttl
  redis.call('ZADD', set, time(now + span), handle)  -- the first write, which a server out of memory refuses
  redis.call('ZREMRANGEBYSCORE', set, '-inf', now)
  span = span + 60000  -- clocks differ
  if redis.call('PTTL', set) < span then redis.call('PEXPIRE', set, span) end
end
""".replace("HEADER", "^S1" + 13 * "%d" + 8 * "[%w_-]" + "%d+;%d*;")


def _script(text: str) -> Script:
    return Script(_COMMON + text)


# create, replace: now, sets, handle, value, ttl, user or nothing[, version]. Where the server's answer to the first
# attempt was lost, the second finds its own version.
CREATE = _script("""
local sets, handle, new, ttl, user = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local value = read('GET', KEYS[1])
if value and not ours(value) then return 0 end
if is_live(value) then return version(value) == version(new) and 1 or 0 end
if sets ~= '' and user then index(sets .. user, handle, ttl) end
redis.call('SET', KEYS[1], new, 'PX', ttl)
return 1
""")
REPLACE = _script("""
local sets, handle, new, ttl, old, user = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local value = read('GET', KEYS[1])
if not is_live(value) then return 0 end
if version(value) == version(new) then return 1 end
if version(value) ~= old then return 0 end
if sets ~= '' and user then index(sets .. user, handle, ttl) end
redis.call('SET', KEYS[1], new, 'PX', ttl)
local owner = user_of(value)
if sets ~= '' and owner and owner ~= user then redis.call('ZREM', sets .. owner, handle) end
return 1
""")

# now, sets, handle, the new ttl or '', '=' and the user whose set has the handle. Answers with the value, or in a list
# where it was not restarted: in a cluster, where the set is elsewhere, as long as that lacks the handle; and where the
# server is out of memory, which does not keep it from reading.
RESTART = _script("""
local sets, handle, given, holder = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local value = read('GET', KEYS[1])
if not is_live(value) then return false end
local ttl, size, start = string.match(value, '^(%d+);(%d*);()', 24)
local user, indexed, answer = user_of(value), '', value
if given ~= '' then ttl, answer = given, '' end
local expires = time(now + ttl)
if user then indexed = string.sub(value, start, start + 12) end
local is_due = user and expires > indexed
if is_due and sets == '' and '=' .. user ~= holder then return {answer, '=' .. user, ttl} end
if is_due then indexed = time(now + 2 * ttl) end
local head = 'S1' .. expires .. version(value) .. ttl .. ';' .. size .. ';' .. indexed
local body = start + #indexed
local written
if #head == body - 1 then
  written = redis.pcall('SETRANGE', KEYS[1], 0, head)
else
  written = redis.pcall('SET', KEYS[1], head .. string.sub(value, body))
end
if type(written) == 'table' and written.err then
  if given == '' and string.find(written.err, 'OOM', 1, true) then return {answer} end
  return written
end
redis.call('PEXPIRE', KEYS[1], ttl)
if is_due and sets ~= '' then index(sets .. user, handle, ttl) end
return answer
""")

# now, sets, handle, version or '', '=' and the user or ''. Answers with '=' and the user, or '' for nobody's.
DELETE = _script("""
local sets, handle = ARGV[2], ARGV[3]
local value = read('GET', KEYS[1])
if not is_live(value) or ARGV[4] ~= '' and ARGV[4] ~= version(value) then return false end
local owner = user_of(value)
local holder = owner and '=' .. owner or ''
if ARGV[5] ~= '' and ARGV[5] ~= holder then return false end
redis.call('DEL', KEYS[1])
if sets ~= '' and owner then redis.call('ZREM', sets .. owner, handle) end
return holder
""")

INDEX = _script("index(KEYS[1], ARGV[2], ARGV[3])")

# Of a set: now, prefix, user[, handle to keep].
FIND_USER = _script("""
local found = {}
for _, handle in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local value = read('GET', ARGV[2] .. handle)
  if is_live(value) and user_of(value) == ARGV[3] then
    found[#found + 1] = handle
    found[#found + 1] = value
  else
    redis.call('ZREM', KEYS[1], handle)
  end
end
return found
""")
DELETE_USER = _script("""
local prefix, user, keep = ARGV[2], ARGV[3], ARGV[4]
local deleted, keys = {}, {}
for _, handle in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local key = prefix .. handle
  local head = handle ~= keep and read('GETRANGE', key, 0, 100 + #user)
  if is_live(head) and user_of(head) == user then
    deleted[#deleted + 1] = handle
    keys[#keys + 1] = key
  end
end
for first = 1, #keys, 5000 do redis.call('DEL', unpack(keys, first, math.min(first + 4999, #keys))) end
local kept, left = redis.call('ZSCORE', KEYS[1], keep), redis.call('PTTL', KEYS[1])
redis.call('DEL', KEYS[1])
if kept then
  redis.call('ZADD', KEYS[1], kept, keep)
  redis.call('PEXPIRE', KEYS[1], left)
end
return deleted
""")
