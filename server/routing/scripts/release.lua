-- ARGV: request ids
for _, request in ipairs(ARGV) do
  release(request)
end
