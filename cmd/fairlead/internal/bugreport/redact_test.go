package bugreport

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// TestRedact asserts what is taken out of every kind of file, and what stays.
func TestRedact(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"plain", "level=INFO msg=\"fairlead runs\"\n", "level=INFO msg=\"fairlead runs\"\n"},
		{"toml", "[node]\nname = \"lb1\"\nhash_seed = \"S3CRET\" # mine\nlog_level = \"info\"\n", "[node]\nname = \"lb1\"\nhash_seed = \"(redacted)\"\nlog_level = \"info\"\n"},
		{"file names stay", "password_file = \"/etc/fairlead/bgp.password\"\n", "password_file = \"/etc/fairlead/bgp.password\"\n"},
		{"several on a line", "a = { password_file = \"/x\", password = \"S3CRET\" }\n", "a = { password_file = \"/x\", password = \"(redacted)\"\n"},
		{"list of lines", "exec = [\n  \"/bin/check\",\n  \"--key=S3CRET\",\n]\nport = 80\n", "exec = \"(redacted)\"\nport = 80\n"},
		{"list in a line", "exec = [\"/bin/check\", \"S3CRET\"]\nport = 80\n", "exec = \"(redacted)\"\nport = 80\n"},
		{"long string", "send = \"\"\"\nS3CRET\nS3CRET\"\"\"\nport = 80\n", "send = \"(redacted)\"\nport = 80\n"},
		{"url", "path = \"/health?token=S3CRET\"\n", "path = \"/health?token= \"(redacted)\"\n"},
		{"header", "Authorization: Bearer S3CRET\nHost: x\n", "Authorization: \"(redacted)\"\nHost: x\n"},
		{"key", "a\n-----BEGIN PRIVATE KEY-----\nS3CRET\n-----END PRIVATE KEY-----\nb\n", "a\n(redacted)\nb\n"},
		{"cut key", "a\n-----BEGIN PRIVATE KEY-----\nS3CRET\n", "a\n(redacted)"},
		{"json", `{"hashSeed": "S3CRET", "n": 18446744073709551615, "exec": ["S3CRET"], "config": {"text": "[node]\nhash_seed = \"S3CRET\"\nname = \"x\"\n"}, "tokens": 3, "tls_key_file": "/k"}`,
			`{
  "config": {
    "text": "[node]\nhash_seed = \"(redacted)\"\nname = \"x\"\n"
  },
  "exec": "(redacted)",
  "hashSeed": "(redacted)",
  "n": 18446744073709551615,
  "tls_key_file": "/k",
  "tokens": 3
}
`},
		{"cut json", `{"a": 1, "password": "S3CRET`, `{"a": 1, "password": "(redacted)"` + "\n"},
	} {
		if got := string(Redact([]byte(c.in))); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

// FuzzRedact asserts that a secret is not in what is left, however it is
// wrapped, and that JSON stays JSON.
func FuzzRedact(f *testing.F) {
	f.Add("name = \"x\"\n", "\nport = 80\n")
	f.Add(`{"a": "`, `"}`)
	f.Add("exec = [", "]")
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "S3CRETS3CRET"
		if strings.Contains(before+after, secret) {
			return
		}
		text := before + "\nhash_seed = \"" + secret + "\"\n" + after
		if got := Redact([]byte(text)); bytes.Contains(got, []byte(secret)) {
			t.Errorf("%q is left in %q", secret, got)
		}
		value, err := json.Marshal(map[string]string{"text": text, "password": secret + before})
		if err != nil {
			t.Fatal(err)
		}
		got := Redact(value)
		if bytes.Contains(got, []byte(secret)) || !json.Valid(got) {
			t.Errorf("%q became %q", value, got)
		}
	})
}

// TestBounds asserts that an archive does not grow with what is put into it, and
// that it lists what is missing.
func TestBounds(t *testing.T) {
	var out bytes.Buffer
	r := New(&out, "top", time.Unix(0, 0))
	add := func(name string, content []byte, err error) {
		t.Helper()
		if err := r.Add(name, content, err); err != nil {
			t.Fatal(err)
		}
	}
	add("absent", nil, errors.New("is not there"))
	large := bytes.Repeat([]byte("x\n"), MaxItem)
	for i := range MaxTotal/MaxItem + 2 {
		add("large"+string(rune('a'+i)), large, nil)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	zip, err := gzip.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	total, list := int64(0), ""
	for files := tar.NewReader(zip); ; {
		h, err := files.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if total += h.Size; h.Name == "top/contents.json" {
			text, err := io.ReadAll(files)
			if err != nil {
				t.Fatal(err)
			}
			list = string(text)
		}
	}
	if total > MaxTotal+1<<20 {
		t.Errorf("%d bytes", total)
	}
	for _, want := range []string{`"note": "is not there"`, `"note": "cut after 4194304 bytes"`, `"note": "left out: the report has 67108864 bytes already"`} {
		if !strings.Contains(list, want) {
			t.Errorf("the list does not say %s:\n%s", want, list)
		}
	}
}
