"""The hot tier's Lua scripts, each one atomic step.

Below the namespace ``{headlift}:`` (one hash tag, so that a cluster keeps all of it in one slot) lie::

    b:KEY         a blob, with its time to live
    t:PREFIX      a tombstone: when PREFIX and all below it was deleted, microseconds; lives for WINDOW_US
    names         sorted set of all keys, for listings in order
    lru           sorted set of all keys by their last use, and lru:TENANT the same for one tenant
    size, bytes   hashes: bytes of every key; bytes of every tenant, and of all under "*"

Blobs may vanish by their time to live or by ``volatile-*`` eviction while the rest still names them; every script
drops such a name when it meets it.
"""

NAMESPACE = "{headlift}:"
# Life of a tombstone. Writes begun longer ago are refused, so that none outlives the tombstone that forbids it.
WINDOW_US = 30_000_000

_SHARED = """
local ns = KEYS[1]
local function now()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end
local function tenant_of(key)
  return string.match(key, '^tenants/([^/]+)') or '-'
end
local function add_bytes(tenant, size)
  if redis.call('HINCRBY', ns..'bytes', tenant, size) <= 0 then
    redis.call('HDEL', ns..'bytes', tenant)
  end
end
local function drop(key)
  local had = redis.call('UNLINK', ns..'b:'..key)
  local size = redis.call('HGET', ns..'size', key)
  if size then
    local tenant = tenant_of(key)
    redis.call('HDEL', ns..'size', key)
    redis.call('ZREM', ns..'names', key)
    redis.call('ZREM', ns..'lru', key)
    redis.call('ZREM', ns..'lru:'..tenant, key)
    add_bytes(tenant, -size)
    add_bytes('*', -size)
  end
  return had
end
local function shrink(lru, name, limit)
  while tonumber(redis.call('HGET', ns..'bytes', name) or 0) > limit do
    local oldest = redis.call('ZRANGE', ns..lru, 0, 0)[1]
    if not oldest then return end
    drop(oldest)
  end
end
local function bury(prefix, window)
  redis.call('SET', ns..'t:'..prefix, string.format('%.0f', now()), 'PX', window / 1000)
end
"""

# key, blob, time to live ms, stamp, bytes of all, bytes of a tenant (0: no limit), window -> 1 kept, 0 not
PUT = (
    _SHARED
    + """
local key, blob, ttl, stamp = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local limit, tenant_limit, window = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local time, size, tenant, path = now(), #blob, tenant_of(key), nil
if time - stamp > window then return 0 end
for part in string.gmatch(key, '[^/]+') do
  path = path and path..'/'..part or part
  local buried = redis.call('GET', ns..'t:'..path)
  if buried and stamp <= tonumber(buried) then return 0 end
end
if size > limit or (tenant_limit > 0 and size > tenant_limit) then
  drop(key)
  return 0
end
redis.call('SET', ns..'b:'..key, blob, 'PX', ttl)
local old = tonumber(redis.call('HGET', ns..'size', key) or 0)
redis.call('HSET', ns..'size', key, size)
redis.call('ZADD', ns..'names', 0, key)
redis.call('ZADD', ns..'lru', time, key)
redis.call('ZADD', ns..'lru:'..tenant, time, key)
add_bytes(tenant, size - old)
add_bytes('*', size - old)
if tenant_limit > 0 then shrink('lru:'..tenant, tenant, tenant_limit) end
shrink('lru', '*', limit)
return 1
"""
)

# key -> time now, and the blob where there is one
GET = (
    _SHARED
    + """
local key, time = ARGV[1], now()
local blob = redis.call('GET', ns..'b:'..key)
if blob then
  redis.call('ZADD', ns..'lru', 'XX', time, key)
  redis.call('ZADD', ns..'lru:'..tenant_of(key), 'XX', time, key)
  return {string.format('%.0f', time), blob}
end
drop(key)
return {string.format('%.0f', time)}
"""
)

# key, window -> 1 where there was one
DELETE = (
    _SHARED
    + """
bury(ARGV[1], ARGV[2])
return drop(ARGV[1])
"""
)

# prefix, window, most keys -> how many were dropped, how many names were met
DELETE_ALL = (
    _SHARED
    + """
bury(ARGV[1], ARGV[2])
local names = redis.call('ZRANGEBYLEX', ns..'names', '['..ARGV[1]..'/', '('..ARGV[1]..'0', 'LIMIT', 0, ARGV[3])
local dropped = 0
for _, key in ipairs(names) do dropped = dropped + drop(key) end
return {dropped, #names}
"""
)

# first, end, most keys -> the last name that was met, then key and milliseconds left to live, in turn
LIST = (
    _SHARED
    + """
local names = redis.call('ZRANGEBYLEX', ns..'names', ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])
local found = {names[#names] or ''}
for _, key in ipairs(names) do
  local left = redis.call('PTTL', ns..'b:'..key)
  if left == -2 then
    drop(key)
  else
    found[#found + 1] = key
    found[#found + 1] = left
  end
end
return found
"""
)

# bytes that must become free -> nothing
SHRINK = (
    _SHARED
    + """
local held = tonumber(redis.call('HGET', ns..'bytes', '*') or 0)
shrink('lru', '*', math.max(0, held - tonumber(ARGV[1])))
return 0
"""
)
