package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// writeWithin is how long a client may take over each piece of an answer.
const writeWithin = 30 * time.Second

func isUnsupported(err error) bool { return errors.Is(err, http.ErrNotSupported) }

// allowWriting gives the client time for the next piece.
func allowWriting(w http.ResponseWriter) {
	// Not every ResponseWriter has deadlines, in tests; those of the server do.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeWithin))
}

// answer sends a value as JSON.
func answer(w http.ResponseWriter, status int, value any) error {
	text, err := encode(value)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", typeJSON)
	w.WriteHeader(status)
	allowWriting(w)
	_, _ = w.Write(text) // the client has gone: nobody to tell
	return nil
}

// encode gives a value in one line of JSON.
func encode(value any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(withoutNils(value)); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}

// refuse sends an error.
func refuse(w http.ResponseWriter, err error) *Error {
	e := asError(err)
	_ = answer(w, e.Status(), errorBody{e})
	return e
}

// stream is an answer in pieces.
type stream struct {
	w     http.ResponseWriter
	begun bool
}

func newStream(w http.ResponseWriter) *stream { return &stream{w: w} }

// send writes one item in a line of its own, at once.
func (s *stream) send(item any) error {
	text, err := encode(item)
	if err != nil {
		return err
	}
	s.begin(typeNDJSON)
	allowWriting(s.w)
	if _, err := s.w.Write(text); err != nil {
		return err
	}
	if err := http.NewResponseController(s.w).Flush(); err != nil && !isUnsupported(err) {
		return err
	}
	return nil
}

func (s *stream) begin(content string) {
	if s.begun {
		return
	}
	s.begun = true
	s.w.Header().Set("Content-Type", content)
	s.w.WriteHeader(http.StatusOK)
}

// end ends the stream of a handler that has returned err.
func (s *stream) end(err error) error {
	switch {
	case err != nil && s.begun:
		_ = s.send(errorBody{asError(err)})
		return nil
	case err != nil:
		return err
	}
	s.begin(typeNDJSON)
	return nil
}

// rawAnswer is an answer that is not JSON.
type rawAnswer struct {
	*stream
	content string
}

// Write sends a piece of the answer, at once.
func (a *rawAnswer) Write(piece []byte) (int, error) {
	a.begin(a.content)
	allowWriting(a.w)
	n, err := a.w.Write(piece)
	if err == nil {
		err = http.NewResponseController(a.w).Flush()
		if isUnsupported(err) {
			err = nil
		}
	}
	return n, err
}
