package k8ssync

import (
	"context"
	"encoding/json"

	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/discovery"
)

// askVersion finds out which version the API server has, once everything is in
// force. It is not needed for anything but to be told.
func (s *Sync) askVersion(ctx context.Context) error {
	select {
	case <-s.inForce:
	case <-ctx.Done():
		return nil
	}
	client, err := discovery.NewDiscoveryClientForConfigAndClient(s.conn.REST(), s.conn.HTTP())
	if err != nil {
		return err
	}
	text, err := client.RESTClient().Get().AbsPath("/version").DoRaw(ctx)
	var v version.Info
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	if err != nil {
		s.log.Debug("the version of the API server is not known", "error", err)
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version = v.GitVersion
	return nil
}

// Version is that of the API server; "" when it is not known yet.
func (s *Sync) Version() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}
