function f()
  retrun 1
end