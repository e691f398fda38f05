-- What the example needs: a function for a content flow.
function look(message)
    return "next"
end
