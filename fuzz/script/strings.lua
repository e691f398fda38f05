function f() return ("a=b c=d"):gsub("(%w)=(%w)", "%2=%1"), pcall(string.rep, "x", 1e9) end
