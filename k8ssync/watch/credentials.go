package watch

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"fairlead/k8ssync/kube"
)

// loader says how the way to the API server is found: by a kubeconfig, by a URL
// with files beside it, or as the service account of the pod that this is.
func loader(s kube.Settings) func() (*rest.Config, error) {
	switch {
	case s.Kubeconfig != "":
		return func() (*rest.Config, error) { return fromKubeconfig(s.Kubeconfig, s.Context) }
	case s.Server != "":
		return func() (*rest.Config, error) { return fromServer(s) }
	}
	return func() (*rest.Config, error) {
		cfg, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("no kubeconfig and no server is set, and this is no pod with a service account: %w", err)
		}
		return cfg, nil
	}
}

func fromKubeconfig(path, context string) (*rest.Config, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: path}
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return cfg, nil
}

func fromServer(s kube.Settings) (*rest.Config, error) {
	cfg := &rest.Config{Host: s.Server, BearerTokenFile: s.TokenFile, TLSClientConfig: rest.TLSClientConfig{CAFile: s.CAFile}}
	if s.TokenFile != "" {
		token, err := os.ReadFile(s.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("token of Kubernetes: %w", err)
		}
		if len(bytes.TrimSpace(token)) == 0 {
			return nil, fmt.Errorf("token of Kubernetes: %s is empty", s.TokenFile)
		}
	}
	if s.CAFile != "" {
		if _, err := os.ReadFile(s.CAFile); err != nil {
			return nil, fmt.Errorf("certificate authority of Kubernetes: %w", err)
		}
	}
	return cfg, nil
}

// How often files are looked at for other credentials: by the way, and when the
// API server refuses those that we have.
const (
	lookEvery   = 15 * time.Second
	lookRefused = time.Second
)

// transport sends requests with the credentials that the files have now.
// Client-go reads token, CA and certificate files again by itself; what a
// kubeconfig holds within itself it does not.
type transport struct {
	load   func() (*rest.Config, error)
	agent  string
	log    *slog.Logger
	now    func() time.Time
	origin string // the URL that requests are made for; another one may have taken its place
	prefix string // path of origin

	mu     sync.Mutex
	using  http.RoundTripper
	url    *url.URL // requests go to
	sum    [sha256.Size]byte
	looked time.Time
	wrong  string // what is wrong with the files
}

func newTransport(load func() (*rest.Config, error), agent string, log *slog.Logger, now func() time.Time) (*transport, error) {
	t := &transport{load: load, agent: agent, log: log, now: now}
	cfg, err := t.load()
	if err != nil {
		return nil, err
	}
	using, at, err := t.make(cfg)
	if err != nil {
		return nil, err
	}
	t.using, t.url, t.sum, t.looked = using, at, fingerprint(cfg), now()
	t.origin, t.prefix = at.String(), strings.TrimSuffix(at.Path, "/")
	return t, nil
}

// make builds what requests go by.
func (t *transport) make(cfg *rest.Config) (http.RoundTripper, *url.URL, error) {
	cfg.UserAgent = t.agent
	at, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("API server %q: %w", cfg.Host, err)
	}
	using, err := rest.TransportFor(cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("API server %s: %w", at, err)
	}
	return using, at, nil
}

// fingerprint is what differs when a configuration does. It is not kept anywhere
// but in memory.
func fingerprint(cfg *rest.Config) [sha256.Size]byte {
	h := sha256.New()
	for _, part := range []string{
		cfg.Host, cfg.APIPath, cfg.BearerToken, cfg.BearerTokenFile, cfg.Username, cfg.Password,
		cfg.ServerName, cfg.CAFile, cfg.CertFile, cfg.KeyFile,
		string(cfg.CAData), string(cfg.CertData), string(cfg.KeyData), fmt.Sprint(cfg.Insecure), cfg.Impersonate.UserName, fmt.Sprint(cfg.ExecProvider),
	} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	using, at := t.current(lookEvery)
	answer, err := using.RoundTrip(t.readdress(req, at))
	if err != nil || answer.StatusCode != http.StatusUnauthorized || req.Body != nil && req.GetBody == nil {
		return answer, err
	}
	// The credentials may have been replaced a moment ago.
	again, at := t.current(lookRefused)
	if again == using {
		return answer, nil
	}
	retry := t.readdress(req.Clone(req.Context()), at)
	if req.GetBody != nil {
		if retry.Body, err = req.GetBody(); err != nil {
			return answer, nil
		}
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<16))
	answer.Body.Close()
	return again.RoundTrip(retry)
}

// current is what requests go by, after a look at the files if the last one was
// longer ago than that.
func (t *transport) current(age time.Duration) (http.RoundTripper, *url.URL) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := t.now(); now.Sub(t.looked) >= age {
		t.looked = now
		t.look()
	}
	return t.using, t.url
}

// look takes other credentials if there are some. The caller holds mu.
func (t *transport) look() {
	cfg, err := t.load()
	if err == nil && fingerprint(cfg) == t.sum {
		t.wrong = ""
		return
	}
	var using http.RoundTripper
	var at *url.URL
	var sum [sha256.Size]byte
	if err == nil {
		sum = fingerprint(cfg)
		using, at, err = t.make(cfg)
	}
	if err != nil {
		if t.wrong != err.Error() {
			t.wrong = err.Error()
			t.log.Error("credentials for Kubernetes cannot be read again; those from before are used", "error", err)
		}
		return
	}
	t.log.Info("credentials for Kubernetes have changed", "server", at.String())
	old := t.using
	t.using, t.url, t.sum, t.wrong = using, at, sum, ""
	utilnet.CloseIdleConnectionsFor(old)
}

// readdress sends a request that was made for origin to where the server is now.
func (t *transport) readdress(req *http.Request, at *url.URL) *http.Request {
	if at.String() == t.origin {
		return req
	}
	req = req.Clone(req.Context())
	req.URL.Scheme, req.URL.Host, req.Host = at.Scheme, at.Host, ""
	req.URL.Path = strings.TrimSuffix(at.Path, "/") + strings.TrimPrefix(req.URL.Path, t.prefix)
	return req
}

func (t *transport) inner() http.RoundTripper {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.using
}

func (t *transport) server() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.url.String()
}

func (t *transport) note() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.wrong
}
