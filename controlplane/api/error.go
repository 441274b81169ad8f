package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Code says in one stable word what kind of error an answer is. Programs decide
// by it; the message is for people and may change.
type Code string

// The codes, and the HTTP status that each is sent with.
const (
	BadRequest           Code = "bad_request"            // 400: the request itself is wrong: its path's or query's values, or its body's form
	Forbidden            Code = "forbidden"              // 403: the caller may not do this
	NotFound             Code = "not_found"              // 404: there is no such endpoint or object
	MethodNotAllowed     Code = "method_not_allowed"     // 405: the endpoint has other methods
	Conflict             Code = "conflict"               // 409: it does not go with what is in force or under way
	NeedsForce           Code = "needs_force"            // 409: a guard holds it back; it can be forced
	TooLarge             Code = "too_large"              // 413: the body is larger than the endpoint takes
	UnsupportedMediaType Code = "unsupported_media_type" // 415: the body is of another type
	Invalid              Code = "invalid"                // 422: well-formed, and refused for what it says
	TooMany              Code = "too_many"               // 429: as many of these as there may be are under way
	Internal             Code = "internal"               // 500: the node failed at it
	Unavailable          Code = "unavailable"            // 503: the node cannot at the moment
)

var statuses = map[Code]int{
	BadRequest: http.StatusBadRequest, Forbidden: http.StatusForbidden, NotFound: http.StatusNotFound,
	MethodNotAllowed: http.StatusMethodNotAllowed, Conflict: http.StatusConflict, NeedsForce: http.StatusConflict,
	TooLarge: http.StatusRequestEntityTooLarge, UnsupportedMediaType: http.StatusUnsupportedMediaType,
	Invalid: http.StatusUnprocessableEntity, TooMany: http.StatusTooManyRequests,
	Internal: http.StatusInternalServerError, Unavailable: http.StatusServiceUnavailable,
}

// Error is an answer other than success. Handlers return one to say what is
// wrong; any other error of theirs is sent as Internal.
type Error struct {
	Code    Code     `json:"code" doc:"What kind of error it is; stable."`
	Message string   `json:"message" doc:"What is wrong, for people."`
	Details []Detail `json:"details,omitempty" doc:"The single things that are wrong, where there are places to point to."`
}

// Detail is one thing that is wrong with what was sent.
type Detail struct {
	Line    int    `json:"line,omitempty" doc:"Line of the body, from 1; left out when there is no place to point to."`
	Column  int    `json:"column,omitempty" doc:"Column of the line, from 1, in characters."`
	Message string `json:"message"`
}

// Errorf makes an error with a code.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error gives the message, and a line for each detail.
func (e *Error) Error() string {
	lines := []string{e.Message}
	for _, d := range e.Details {
		if d.Line > 0 {
			lines = append(lines, fmt.Sprintf("  %d:%d: %s", d.Line, d.Column, d.Message))
		} else {
			lines = append(lines, "  "+d.Message)
		}
	}
	return strings.Join(lines, "\n")
}

// Status is the HTTP status that the error is sent with.
func (e *Error) Status() int {
	if status, known := statuses[e.Code]; known {
		return status
	}
	return http.StatusInternalServerError
}

// asError makes an Error of any error.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		if error(e) != err && len(e.Details) == 0 {
			return &Error{Code: e.Code, Message: err.Error()} // with the context that it was given
		}
		return e
	}
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return Errorf(TooLarge, "the body is larger than %d bytes", large.Limit)
	}
	return &Error{Code: Internal, Message: err.Error()}
}

// errorBody is the shape of every answer that is an error.
type errorBody struct {
	Error *Error `json:"error"`
}
