package member

// ForgottenAfter is for how many probe intervals memberlist remembers a dead node,
// and a few more.
const ForgottenAfter = gossipToTheDead + 10
