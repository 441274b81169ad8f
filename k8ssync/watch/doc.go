// Package watch knows what the API server of Kubernetes knows: it holds copies of
// the objects that others ask for, follows their changes, and tells how the
// connection is. It writes nothing.
//
// Nothing that an API server does ends it. That the server is away, that a watch
// breaks off or is too old to be gone on with, that a permission is missing or a
// kind of object does not exist is a state that Status tells, and is tried again
// for as long as the context lives. Meanwhile the copies stay as they were.
package watch
