return text(current())
