package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// orderRequest is a request with a field of every kind.
type orderRequest struct {
	Pool   string         `path:"pool"`
	Dry    bool           `query:"dry" default:"true"`
	Weight *uint16        `query:"weight" maximum:"100"`
	After  Duration       `query:"after" minimum:"1s" maximum:"1h"`
	Prefix []netip.Prefix `query:"prefix"`
	Kind   string         `query:"kind" enum:"a,b"`
	Body   bill           `body:"application/json"`
}

type bill struct {
	Name   string            `json:"name" required:"true"`
	Count  int8              `json:"count" minimum:"1" maximum:"9"`
	Share  float64           `json:"share"`
	On     *bool             `json:"on"`
	Wait   Duration          `json:"wait" maximum:"1m"`
	At     netip.AddrPort    `json:"at"`
	Kinds  []string          `json:"kinds" enum:"a,b"`
	Labels map[string]string `json:"labels"`
	Lines  []struct {
		Price uint `json:"price" required:"true"`
	} `json:"lines"`
	Any any `json:"any"`
}

// taking is a router with one endpoint that takes an order and says what it
// was.
func taking(calls *[]orderRequest) *Router {
	r := &Router{}
	Handle(r, Endpoint{
		Method: http.MethodPost, Path: "/v1/pools/{pool}/order", Role: Operator, Tag: "t", Summary: "s", MaxBody: 1000,
		Examples: []Example{{"/v1/pools/web/order?weight=7", `{"name": "x"}`}},
	}, func(_ context.Context, in orderRequest) (Nothing, error) {
		*calls = append(*calls, in)
		return Nothing{}, nil
	})
	Handle(r, Endpoint{
		Method: http.MethodGet, Path: "/v1/pools/{pool}/order", Role: ReadOnly, Tag: "t", Summary: "s",
	}, func(_ context.Context, in struct {
		Pool string `path:"pool"`
	}) (bill, error) {
		return bill{}, fmt.Errorf("look: %w", Errorf(NotFound, "there is no pool %q", in.Pool))
	})
	Handle(r, Endpoint{
		Method: http.MethodPut, Path: "/v1/document", Role: Operator, Tag: "t", Summary: "s",
	}, func(_ context.Context, in struct {
		Body []byte `body:"application/toml"`
	}) (bill, error) {
		return bill{Name: string(in.Body)}, nil
	})
	return r
}

// TestTakes asserts that what is sent arrives, defaults too.
func TestTakes(t *testing.T) {
	var calls []orderRequest
	h := inMemory(t, taking(&calls))
	body := `{"name": "x", "count": 9, "share": 1e2, "on": null, "wait": "30s", "at": "[2001:db8::1]:80", "kinds": ["a", "b"],
		"labels": {"a": "b"}, "lines": [{"price": 18446744073709551615}], "any": {"a": [1, "b", null]}}`
	answer := send(h, Operator, http.MethodPost, "/v1/pools/a%2Fb%20c/order?dry=false&weight=100&after=1m&prefix=192.0.2.0/24&prefix=2001:db8::/32", "application/json; charset=utf-8", body)
	if text, _ := io.ReadAll(answer.Body); answer.StatusCode != http.StatusNoContent || len(text) > 0 {
		t.Fatalf("%s: %s", answer.Status, text)
	}
	weight := uint16(100)
	want := orderRequest{Pool: "a/b c", Weight: &weight, After: Duration(60e9), Prefix: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}}
	want.Body = bill{Name: "x", Count: 9, Share: 100, Wait: Duration(30e9), At: netip.MustParseAddrPort("[2001:db8::1]:80"), Kinds: []string{"a", "b"},
		Labels: map[string]string{"a": "b"}, Any: map[string]any{"a": []any{1.0, "b", nil}}}
	want.Body.Lines = append(want.Body.Lines, struct {
		Price uint `json:"price" required:"true"`
	}{1<<64 - 1})
	if len(calls) != 1 || !reflect.DeepEqual(calls[0], want) {
		t.Errorf("got  %+v\nwant %+v", calls, want)
	}
	calls = nil
	send(h, Operator, http.MethodPost, "/v1/pools/web/order", "application/json", `{"name": ""}`)
	if len(calls) != 1 || !reflect.DeepEqual(calls[0], orderRequest{Pool: "web", Dry: true}) {
		t.Errorf("got %+v", calls)
	}
	answer = send(h, Operator, http.MethodPut, "/v1/document", "application/toml", "[node]\n")
	if text, _ := io.ReadAll(answer.Body); !strings.Contains(string(text), `"name":"[node]\n"`) {
		t.Errorf("%s: %s", answer.Status, text)
	}
}

// TestRefuses asserts what is said of every kind of request that is wrong, to
// the letter, and that no handler sees one.
func TestRefuses(t *testing.T) {
	const order = "/v1/pools/web/order"
	for _, c := range []struct {
		name, method, path, content, body string
		status                            int
		code                              Code
		want                              string
	}{
		{"path", "GET", "/v1/nothing", "", "", 404, NotFound, "there is no /v1/nothing; GET /v1/openapi.json lists what there is"},
		{"unclean path", "GET", "/v1//pools", "", "", 404, NotFound, "there is no /v1//pools"},
		{"dots", "GET", "/v1/../v1/pools", "", "", 404, NotFound, "there is no /v1/../v1/pools"},
		{"trailing slash", "POST", order + "/", "", "", 404, NotFound, "there is no " + order + "/"},
		{"method", "DELETE", order, "", "", 405, MethodNotAllowed, order + " takes GET, POST, not DELETE"},
		{"strange method", "BREW", order, "", "", 405, MethodNotAllowed, order + " takes GET, POST, not BREW"},
		{"handler's", "GET", order, "", "", 404, NotFound, `look: there is no pool "web"`},
		{"body of GET", "GET", order, "", "x", 400, BadRequest, "GET /v1/pools/{pool}/order takes no body"},
		{"unknown parameter", "POST", order + "?wieght=1", typeJSON, `{"name": "x"}`, 400, BadRequest, `unknown parameter "wieght"; there are dry, weight, after, prefix, kind`},
		{"no parameters", "GET", order + "?a", "", "", 400, BadRequest, `unknown parameter "a"; there are none here`},
		{"malformed query", "POST", order + "?a=%zz", typeJSON, `{"name": "x"}`, 400, BadRequest, `the query "a=%zz" is malformed`},
		{"semicolon", "POST", order + "?dry=true;weight=1", typeJSON, `{"name": "x"}`, 400, BadRequest, `the query "dry=true;weight=1" is malformed`},
		{"twice", "POST", order + "?dry=true&dry=false", typeJSON, `{"name": "x"}`, 400, BadRequest, `parameter "dry" is given 2 times`},
		{"bool", "POST", order + "?dry=yes", typeJSON, `{"name": "x"}`, 400, BadRequest, `parameter "dry": "yes" is neither true nor false`},
		{"number", "POST", order + "?weight=x", typeJSON, `{"name": "x"}`, 400, BadRequest, `parameter "weight": "x" is not a number that fits here`},
		{"number too large", "POST", order + "?weight=65536", typeJSON, `{"name": "x"}`, 400, BadRequest, `parameter "weight": "65536" is not a number that fits here`},
		{"number out of range", "POST", order + "?weight=101", typeJSON, `{"name": "x"}`, 400, BadRequest, `parameter "weight": 101 is out of range; it must be at most 100`},
		{"duration", "POST", order + "?after=5", typeJSON, `{"name": "x"}`, 400, BadRequest, `parameter "after": "5" is not a duration; write it as "500ms", "30s", "5m" or "1h30m"`},
		{"duration out of range", "POST", order + "?after=61m", typeJSON, `{"name": "x"}`, 400, BadRequest, `parameter "after": 1h1m is out of range; it must be 1s to 1h`},
		{"prefix", "POST", order + "?prefix=1.2.3.4", typeJSON, `{"name": "x"}`, 400, BadRequest, `parameter "prefix": "1.2.3.4" is not a prefix, such as 192.0.2.0/24`},
		{"enum", "POST", order + "?kind=c", typeJSON, `{"name": "x"}`, 400, BadRequest, `parameter "kind": "c" is none of a, b`},
		{"no type", "POST", order, "", `{}`, 415, UnsupportedMediaType, `the body is to be application/json, not ""`},
		{"another type", "POST", order, "application/x-www-form-urlencoded", `{}`, 415, UnsupportedMediaType, `the body is to be application/json, not "application/x-www-form-urlencoded"`},
		{"large", "POST", order, typeJSON, `{"name": "` + strings.Repeat("x", 1000) + `"}`, 413, TooLarge, "the body is larger than 1000 bytes"},
		{"empty", "POST", order, typeJSON, " \n", 400, BadRequest, "the body is empty; it is to be JSON"},
		{"not UTF-8", "POST", order, typeJSON, "{\"name\": \"\xff\"}", 400, BadRequest, "the body is not UTF-8"},
		{"not JSON", "POST", order, typeJSON, "{\n\"näme\": x}", 400, BadRequest, "the body is not JSON\n  2:9: invalid character 'x' looking for beginning of value"},
		{"cut", "POST", order, typeJSON, `{"name": "x"`, 400, BadRequest, "the body is not JSON\n  1:12: unexpected end of JSON input"},
		{"two values", "POST", order, typeJSON, "{}\n{}", 400, BadRequest, "the body is not JSON\n  2:1: invalid character '{' after top-level value"},
		{"deep", "POST", order, typeJSON, `{"any": ` + strings.Repeat("[", 400) + strings.Repeat("]", 400) + `, "name": 1}`, 400, BadRequest,
			"the body is not what it is to be\n  1:819: name: expected a string, found a number"},
		{"all kinds", "POST", order, typeJSON, `{"nmae": {"a": [1]}, "Name": "x", "count": 10, "share": "1", "on": 1, "wait": 5,
 "at": "198.18.0.1", "kinds": ["a", "c", 1], "labels": {"a": 1}, "lines": [{}, {"price": -1}, {"price": 1.5}, 7], "count": 2, "any": null}`, 400, BadRequest, `the body is not what it is to be
  1:2: unknown key "nmae"
  1:22: unknown key "Name"
  1:44: count: 10 is out of range; it must be 1 to 9
  1:57: share: expected a number, found a string
  1:68: on: expected true or false, found a number
  1:79: wait: expected a string, found a number
  2:8: at: "198.18.0.1" is not an IP address with a port, such as 192.0.2.1:80 or [2001:db8::1]:80
  2:37: kinds[1]: "c" is none of a, b
  2:42: kinds[2]: expected a string, found a number
  2:62: labels.a: expected a string, found a number
  2:76: lines[0]: missing key "price"
  2:90: lines[1].price: expected an integer that fits here, found -1
  2:105: lines[2].price: expected an integer that fits here, found 1.5
  2:111: lines[3]: expected an object, found a number
  2:115: key "count" is given twice
  1:1: missing key "name"`},
		{"an array", "POST", order, typeJSON, `[{"name": "x"}]`, 400, BadRequest, "the body is not what it is to be\n  1:1: expected an object, found an array"},
		{"null", "POST", order, typeJSON, `null`, 400, BadRequest, "the body is not what it is to be\n  1:1: expected an object, found null"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var calls []orderRequest
			answer := send(inMemory(t, taking(&calls)), Operator, c.method, c.path, c.content, c.body)
			text, err := io.ReadAll(answer.Body)
			var body errorBody
			if err != nil || answer.Header.Get("Content-Type") != typeJSON || json.Unmarshal(text, &body) != nil || body.Error == nil {
				t.Fatalf("%s %v: %s", answer.Status, err, text)
			}
			if answer.StatusCode != c.status || body.Error.Code != c.code || body.Error.Error() != c.want {
				t.Errorf("%s, %s\n%s\nwant %d, %s\n%s", answer.Status, body.Error.Code, body.Error, c.status, c.code, c.want)
			}
			if calls != nil {
				t.Errorf("a handler was called with %+v", calls)
			}
		})
	}
}

// TestManyWrong asserts that an answer does not grow with what is wrong.
func TestManyWrong(t *testing.T) {
	var v []bill
	err := decodeJSON([]byte("["+strings.Repeat(`{"x":1},`, 10_000)+"1]"), reflect.ValueOf(&v).Elem())
	if e, ok := errors.AsType[*Error](err); !ok || len(e.Details) != mostDetails {
		t.Errorf("%v", err)
	}
}

// FuzzRequest asserts that whatever is sent is answered in the shape that the
// document promises, and that a body is taken exactly when it can be encoded
// again to the same value.
func FuzzRequest(f *testing.F) {
	f.Add("POST", "/v1/pools/web/order", "weight=7", typeJSON, `{"name": "x", "lines": [{"price": 1}]}`)
	f.Add("GET", "/v1/status", "", "", "")
	f.Add("GET", "/v1/backends", "limit=3&after=a%2Fb", "", "")
	f.Add("POST", "/v1/debug/profile", "seconds=1", "", "")
	f.Add("PUT", "/v1/document", "", "application/toml", "a = 1")
	var calls []orderRequest
	r := taking(&calls)
	node := newFixed()
	registerStatus(r, node)
	registerServices(r, node)
	registerProfile(r, node)
	h := inMemory(f, r)
	f.Fuzz(func(t *testing.T, method, path, query, content, body string) {
		calls = nil
		request, err := http.NewRequest(method, "http://node/", strings.NewReader(body))
		if err != nil {
			return
		}
		request.URL.Path, request.URL.RawQuery = path, query
		if content != "" {
			request.Header.Set("Content-Type", content)
		}
		answer := sendRequest(h, Operator, request)
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode/100 != 2 {
			var failure errorBody
			if err := json.Unmarshal(text, &failure); err != nil || failure.Error == nil || failure.Error.Message == "" || failure.Error.Status() != answer.StatusCode {
				t.Fatalf("%s: %s", answer.Status, text)
			}
			if failure.Error.Code == Internal {
				t.Fatalf("%s %s?%s %q: %s", method, path, query, body, text)
			}
			if calls != nil {
				t.Fatalf("refused after the handler was called: %s", text)
			}
		}
		for _, call := range calls {
			again, err := json.Marshal(call.Body)
			var value bill
			if err != nil || decodeJSON(again, reflect.ValueOf(&value).Elem()) != nil && value.At.IsValid() {
				t.Fatalf("%q was taken as %s, %v", body, again, err)
			}
		}
	})
}
