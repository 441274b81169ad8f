package api

import (
	"context"
	"fmt"
)

// Role is what a caller may do. Each role includes those before it.
type Role uint8

// The roles.
const (
	Nobody   Role = iota // nothing
	ReadOnly             // look at everything
	Operator             // change what is in force
)

// String is the role's name.
func (r Role) String() string {
	switch r {
	case ReadOnly:
		return "read-only"
	case Operator:
		return "operator"
	}
	return "nobody"
}

// Caller is who sends a request.
type Caller struct {
	Name string // "root", "alice", "uid 1017", or what a certificate says: "cn:ops1"
	From string // "pid 4711", or the address of a TCP client
	Role Role
}

// String is the caller as logs and versions show it.
func (c Caller) String() string {
	if c.From == "" {
		return c.Name
	}
	return fmt.Sprintf("%s (%s)", c.Name, c.From)
}

type callerKey struct{}

// CallerOf is who sent the request that a handler's context belongs to; the
// zero Caller outside of handlers.
func CallerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

func withCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}
