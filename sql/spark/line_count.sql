size(filter(lines, line -> {condition}))
