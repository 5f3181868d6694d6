"""The Lua scripts of `RedisStore`: each verb is one step in the server.

They run on the server that has the record. In a cluster the user's set is on another one, and its key is passed as an
empty text: then the scripts leave it alone, and the store takes care of it by scripts of its own.
"""

from __future__ import annotations

import hashlib


class Script:
    """A Lua script, and the name under which a server caches it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


# Times have 13 digits, so that as texts they compare as numbers do. What an error says is passed on, but a value of
# another type is another program's. The longest user has some thousand bytes, most have few.
_COMMON = """
local now = ARGV[1]
local function time(number) return string.format('%013.0f', math.min(number, 9999999999999)) end
local function ours(head) return type(head) == 'string' and string.find(head, 'HEADER') end
local function head_of(key)
  local head = redis.pcall('GETRANGE', key, 0, 255)
  if type(head) == 'table' then
    if not string.find(head.err, 'WRONGTYPE', 1, true) then redis.call('GETRANGE', key, 0, 255) end
    return head
  end
  if not ours(head) then return head end
  local size, start = string.match(head, '^%d+;(%d+);()', 24)
  if size and start + 12 + size > 256 then head = redis.call('GETRANGE', key, 0, start + 11 + size) end
  return head
end
local function is_live(head) return ours(head) and string.sub(head, 3, 15) > now end
local function version(head) return string.sub(head, 16, 23) end
local function ttl_of(head) return tonumber(string.match(head, '^%d+', 24)) end
local function user_of(head)
  local size, start = string.match(head, '^%d+;(%d+);()', 24)
  return size and string.sub(head, start + 13, start + 12 + size)
end
local function order_of(head)
  local start = string.match(head, '^%d+;%d+;()', 24)
  local first = start and string.byte(head, start) or 48
  return first < 48 and (first - 32) * 281474976710656 + tonumber(string.sub(head, start + 1, start + 12), 16) or 0
end
local function letters_of(order)
  local low = order % 281474976710656
  local lower = low % 16777216
  local digits = string.format('%06x%06x', (low - lower) / 16777216, lower)
  return string.char(32 + math.floor(order / 281474976710656)) .. digits
end
local function write_order(value, order)
  redis.call('SETRANGE', KEYS[1], string.match(value, '^%d+;%d+;()', 24) - 1, letters_of(order))
end
-- the next order of a user: the server's time in microseconds, or one more than the latest
local function next_order(set)
  local clock, latest = redis.call('TIME'), redis.call('ZREVRANGE', set, 0, 0, 'WITHSCORES')[2]
  local order = clock[1] * 1000000 + clock[2]
  if latest and tonumber(latest) > 100000000000000 and tonumber(latest) >= order then order = latest + 1 end
  return order
end
local function add(set, handle, order, ttl)
  local score = order > 0 and order or now + 2 * ttl
  redis.call('ZADD', set, string.format('%.0f', score), handle)  -- the first write, which may be refused
  local span = 2 * ttl + 60000  -- clocks differ
  if redis.call('PTTL', set) < span then redis.call('PEXPIRE', set, span) end
end
local function forget_some(set, prefix)
  for _, other in ipairs(redis.call('ZRANDMEMBER', set, 3)) do
    if redis.call('EXISTS', prefix .. other) == 0 then redis.call('ZREM', set, other) end
  end
end
-- Whether a set must hear of a record that expires later now: twice in each ttl, while the set outlives two of them.
local function is_due(head, expires, ttl)
  return ttl_of(head) ~= ttl or math.floor(string.sub(head, 3, 15) * 2 / ttl) ~= math.floor(expires * 2 / ttl)
end
-- Handles and scores of a set, the highest first, that come after a score and a handle, or from the beginning.
local function page(set, score, handle, limit)
  if score == '' then return redis.call('ZREVRANGE', set, 0, limit - 1, 'WITHSCORES') end
  local found, offset = {}, 0
  repeat
    local more = redis.call('ZREVRANGEBYSCORE', set, score, '-inf', 'WITHSCORES', 'LIMIT', offset, limit)
    for at = 1, #more, 2 do
      if #found < 2 * limit and (tonumber(more[at + 1]) < tonumber(score) or more[at] < handle) then
        found[#found + 1] = more[at]
        found[#found + 1] = more[at + 1]
      end
    end
    offset = offset + limit
  until #found >= 2 * limit or #more < 2 * limit
  return found
end
""".replace("HEADER", "^S1" + 13 * "%d" + 8 * "[%w_-]" + "%d+;%d*;")


def _script(text: str) -> Script:
    return Script(_COMMON + text)


# now, sets or '' in a cluster, handle, value. Answers with the order, 0 for nobody. Where the server's answer to the
# first attempt was lost, the second finds its own version. With each login the set loses up to three members whose
# sessions have expired, so that it contains not many more of those than live ones.
CREATE = _script("""
local sets, handle, new = ARGV[2], ARGV[3], ARGV[4]
local old = head_of(KEYS[1])
if not ours(old) and (old ~= '' or redis.call('EXISTS', KEYS[1]) == 1) then return false end
if is_live(old) then return version(old) == version(new) and order_of(old) end
local ttl, user, order = ttl_of(new), user_of(new), order_of(new)
local set = sets ~= '' and user and sets .. user
local is_login = set and order == 0
if is_login then order = next_order(set) end
if set then add(set, handle, order, ttl) end
redis.call('SET', KEYS[1], new, 'PX', ttl)
if is_login then
  write_order(new, order)
  forget_some(set, string.sub(KEYS[1], 1, -1 - #handle))
end
return order
""")

# now, sets or '' in a cluster, handle, value, old version. Answers with the order, '=' and the user that the record had
# (or ''), and whether the set must hear of the record.
REPLACE = _script("""
local sets, handle, new = ARGV[2], ARGV[3], ARGV[4]
local old = head_of(KEYS[1])
if not is_live(old) then return false end
local owner = user_of(old)
local before = owner and '=' .. owner or ''
if version(old) == version(new) then return {order_of(old), before, 1} end
if version(old) ~= ARGV[5] then return false end
local ttl, user, order = ttl_of(new), user_of(new), order_of(new)
local set = sets ~= '' and user and sets .. user
local is_login = set and order == 0
if is_login then order = next_order(set) end
local due = user and (is_login or user ~= owner or is_due(old, string.sub(new, 3, 15), ttl))
if set and due then add(set, handle, order, ttl) end
redis.call('SET', KEYS[1], new, 'PX', ttl)
if is_login then write_order(new, order) end
if sets ~= '' and owner and owner ~= user then redis.call('ZREM', sets .. owner, handle) end
return {order, before, due and 1 or 0}
""")

# now, sets or '' in a cluster, handle, the new ttl or ''. Answers with '=' and the user (or ''), ttl, and order.
RESTART = _script("""
local sets, handle, given = ARGV[2], ARGV[3], ARGV[4]
local head = head_of(KEYS[1])
if not is_live(head) then return false end
local user, order, digits = user_of(head), order_of(head), string.match(head, '^%d+', 24)
local ttl = given == '' and tonumber(digits) or tonumber(given)
if sets ~= '' and user then add(sets .. user, handle, order, ttl) end
local expires = time(now + ttl)
if given == '' then
  redis.call('SETRANGE', KEYS[1], 2, expires)
elseif #given == #digits then
  redis.call('SETRANGE', KEYS[1], 2, expires .. version(head) .. given)
else
  local rest = string.sub(redis.call('GET', KEYS[1]), 24 + #digits)
  redis.call('SET', KEYS[1], 'S1' .. expires .. version(head) .. given .. rest)
end
redis.call('PEXPIRE', KEYS[1], ttl)
return {user and '=' .. user or '', ttl, order}
""")

# now, sets or '' in a cluster, handle, version or '', '=' and the user or ''. Answers with '=' and the user, or ''.
DELETE = _script("""
local sets, handle = ARGV[2], ARGV[3]
local head = head_of(KEYS[1])
if not ours(head) or ARGV[4] ~= '' and ARGV[4] ~= version(head) then return false end
local owner = user_of(head)
local holder = owner and '=' .. owner or ''
if ARGV[5] ~= '' and ARGV[5] ~= holder or ARGV[5] == '' and not is_live(head) then return false end
redis.call('DEL', KEYS[1])
if sets ~= '' and owner then redis.call('ZREM', sets .. owner, handle) end
return is_live(head) and holder
""")

# Of a set, in any place.

# now, prefix, user, score and handle after which the page begins, limit, bytes. Answers with handles and values, and
# then with the score and the handle of the last one if there is more. Handles without a record leave the set.
FIND_USER = _script("""
local prefix, user, limit, room = ARGV[2], ARGV[3], tonumber(ARGV[6]), tonumber(ARGV[7])
local members, found, dead, last = page(KEYS[1], ARGV[4], ARGV[5], limit + 1), {}, {}, 0
for at = 1, math.min(#members, 2 * limit), 2 do
  local value = redis.pcall('GET', prefix .. members[at])
  if not ours(value) or user_of(value) ~= user then
    dead[#dead + 1] = members[at]
  elseif is_live(value) then  -- else another clock may find it live
    found[#found + 1] = members[at]
    found[#found + 1] = value
    room = room - #value
  end
  last = at
  if room <= 0 then break end
end
local next = {}
if last > 0 and last + 1 < #members then next = {members[last + 1], members[last]} end
for first = 1, #dead, 1000 do redis.pcall('ZREM', KEYS[1], unpack(dead, first, math.min(first + 999, #dead))) end
return {found, next}
""")

# now, prefix, user, score and handle after which it begins, limit, handle to keep. Answers with the handles that were
# deleted, and with 1 if there is more.
DELETE_USER = _script("""
local prefix, user, keep = ARGV[2], ARGV[3], ARGV[7]
local members = page(KEYS[1], ARGV[4], ARGV[5], ARGV[6] + (keep == '' and 0 or 1))
local deleted, keys, gone = {}, {}, {}
for at = 1, #members, 2 do
  local handle = members[at]
  if handle ~= keep and #gone < tonumber(ARGV[6]) then
    local key = prefix .. handle
    local head = head_of(key)
    if ours(head) and user_of(head) == user then
      keys[#keys + 1] = key
      if is_live(head) then deleted[#deleted + 1] = handle end
    end
    gone[#gone + 1] = handle
  end
end
for first = 1, #keys, 1000 do redis.call('DEL', unpack(keys, first, math.min(first + 999, #keys))) end
for first = 1, #gone, 1000 do redis.call('ZREM', KEYS[1], unpack(gone, first, math.min(first + 999, #gone))) end
local rest = page(KEYS[1], ARGV[4], ARGV[5], 2)
local more = rest[1] and rest[1] ~= keep or rest[3] and rest[3] ~= keep
return {deleted, more and 1 or 0}
""")

# For clusters, where the records of a set are elsewhere.

# now. Answers with the next order of the user; the number before it is not used either.
ORDER = _script("return next_order(KEYS[1]) + 1")
# now, handle, and the score that it has in the set if it is to be removed.
REMOVE = _script("""
local score = redis.call('ZSCORE', KEYS[1], ARGV[2])
return score == ARGV[3] and redis.call('ZREM', KEYS[1], ARGV[2]) or 0
""")
# now, handle, order, ttl, and 1 for a login. Answers with some members, which may have expired.
ADD = _script("""
add(KEYS[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]))
if ARGV[5] == '1' and redis.call('ZCARD', KEYS[1]) > 8 then return redis.call('ZRANDMEMBER', KEYS[1], 3) end
return {}
""")
# now, score and handle after which the page begins, limit. Answers with handles and scores.
PAGE_OF_SET = _script("return page(KEYS[1], ARGV[2], ARGV[3], tonumber(ARGV[4]))")

# For the layout of Express. A value of another type is another program's.

_EXPRESS = """
local function read(key)
  local value = redis.pcall('GET', key)
  return type(value) == 'string' and value
end
-- A set keeps the order in which handles came into it; one that the previous version added comes anew.
local function note(set, handle, seconds)
  local score = redis.call('ZSCORE', set, handle)
  local order = score and tonumber(score) > 100000000000000 and tonumber(score) or next_order(set)
  add(set, handle, order, seconds * 1000)
end
"""


def _express(text: str) -> Script:
    return Script(_COMMON + _EXPRESS + text)


# now, set or '', handle, seconds to live, value, nothing, prefix. The second attempt finds its own value.
EXPRESS_CREATE = _express("""
local value = read(KEYS[1])
if value and value ~= ARGV[5] then return false end
if not value and not redis.call('SET', KEYS[1], ARGV[5], 'EX', ARGV[4], 'NX') then return false end
if ARGV[2] ~= '' then
  note(ARGV[2], ARGV[3], ARGV[4])
  forget_some(ARGV[2], ARGV[7])
end
return 1
""")
# now, set or '', handle, seconds to live, value, the value that it replaces. A set that outlives the record by its
# seconds to live, and contains it, is left alone.
EXPRESS_REPLACE = _express("""
local set, handle, seconds = ARGV[2], ARGV[3], tonumber(ARGV[4])
if read(KEYS[1]) ~= ARGV[6] then return false end
local is_known = set == '' or redis.call('ZSCORE', set, handle) and redis.call('PTTL', set) > 1000 * seconds
if not is_known then note(set, handle, seconds) end
if redis.call('PTTL', KEYS[1]) == -1 then
  redis.call('SET', KEYS[1], ARGV[5])
else
  redis.call('SET', KEYS[1], ARGV[5], 'EX', seconds)
end
return 1
""")
# now, set or '', handle, seconds to live.
EXPRESS_RESTART = _express("""
local left = redis.call('PTTL', KEYS[1])
if left == -2 then return false end
if ARGV[2] ~= '' then note(ARGV[2], ARGV[3], ARGV[4]) end
if left > 0 then redis.call('EXPIRE', KEYS[1], ARGV[4]) end
return 1
""")
# The value, or ''. Answers with the value.
EXPRESS_DELETE = _express("""
local value = read(KEYS[1])
if not value or ARGV[1] ~= '' and value ~= ARGV[1] then return false end
redis.call('DEL', KEYS[1])
return value
""")
# Of a set: now, handle, seconds to live.
EXPRESS_ADD = _express("note(KEYS[1], ARGV[2], ARGV[3])")
# cursor, pattern, how many keys to look at, and what a value must contain. Answers with the next cursor, and keys.
EXPRESS_SEARCH = _express("""
local reply, found = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3]), {}
for _, key in ipairs(reply[2]) do
  local value = read(key)
  if value and string.find(value, ARGV[4], 1, true) then found[#found + 1] = key end
end
return {reply[1], found}
""")
