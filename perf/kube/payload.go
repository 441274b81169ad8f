package kube

import (
	"context"
	"fmt"
	"io/fs"

	authentication "k8s.io/api/authentication/v1"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// file is one file of a volume that is made of objects.
type file struct {
	data []byte
	mode fs.FileMode
}

// payload is what a volume consists of that is made of objects, by path.
func (w *worker) payload(ctx context.Context, pod *core.Pod, v *core.Volume) (map[string]file, error) {
	p := payload{worker: w, pod: pod, files: map[string]file{}}
	switch {
	case v.ConfigMap != nil:
		p.mode = v.ConfigMap.DefaultMode
		return p.files, p.configMap(ctx, v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.Optional)
	case v.Secret != nil:
		p.mode = v.Secret.DefaultMode
		return p.files, p.secret(ctx, v.Secret.SecretName, v.Secret.Items, v.Secret.Optional)
	case v.DownwardAPI != nil:
		p.mode = v.DownwardAPI.DefaultMode
		return p.files, p.fields(v.DownwardAPI.Items)
	case v.Projected != nil:
		p.mode = v.Projected.DefaultMode
		for _, s := range v.Projected.Sources {
			if err := p.source(ctx, s); err != nil {
				return nil, err
			}
		}
		return p.files, nil
	}
	return nil, fmt.Errorf("the lab knows no volumes of its kind")
}

type payload struct {
	worker *worker
	pod    *core.Pod
	mode   *int32 // of files for which nothing else is said
	files  map[string]file
}

func (p *payload) source(ctx context.Context, s core.VolumeProjection) error {
	switch {
	case s.ConfigMap != nil:
		return p.configMap(ctx, s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional)
	case s.Secret != nil:
		return p.secret(ctx, s.Secret.Name, s.Secret.Items, s.Secret.Optional)
	case s.DownwardAPI != nil:
		return p.fields(s.DownwardAPI.Items)
	case s.ServiceAccountToken != nil:
		return p.token(ctx, s.ServiceAccountToken)
	}
	return fmt.Errorf("the lab knows no such source")
}

func (p *payload) configMap(ctx context.Context, name string, items []core.KeyToPath, optional *bool) error {
	m, err := p.worker.api().CoreV1().ConfigMaps(p.pod.Namespace).Get(ctx, name, meta.GetOptions{})
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return nil
	}
	if err != nil {
		return err
	}
	data := m.BinaryData
	if data == nil {
		data = map[string][]byte{}
	}
	for key, text := range m.Data {
		data[key] = []byte(text)
	}
	return p.keys("ConfigMap "+name, data, items)
}

func (p *payload) secret(ctx context.Context, name string, items []core.KeyToPath, optional *bool) error {
	s, err := p.worker.api().CoreV1().Secrets(p.pod.Namespace).Get(ctx, name, meta.GetOptions{})
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return nil
	}
	if err != nil {
		return err
	}
	return p.keys("Secret "+name, s.Data, items)
}

// keys adds all keys of an object, or those that are asked for.
func (p *payload) keys(object string, data map[string][]byte, items []core.KeyToPath) error {
	if len(items) == 0 {
		for key, value := range data {
			p.add(key, value, nil)
		}
		return nil
	}
	for _, i := range items {
		value, ok := data[i.Key]
		if !ok {
			return fmt.Errorf("%s has no key %s", object, i.Key)
		}
		p.add(i.Path, value, i.Mode)
	}
	return nil
}

func (p *payload) fields(items []core.DownwardAPIVolumeFile) error {
	for _, i := range items {
		if i.FieldRef == nil {
			return fmt.Errorf("%s: the lab knows fields of pods alone", i.Path)
		}
		value, err := p.worker.field(p.pod, i.FieldRef.FieldPath)
		if err != nil {
			return err
		}
		p.add(i.Path, []byte(value), i.Mode)
	}
	return nil
}

// token asks for a token of the pod's account that is void when the pod is gone. It
// is not asked for again when it is about to end.
func (p *payload) token(ctx context.Context, s *core.ServiceAccountTokenProjection) error {
	request := &authentication.TokenRequest{Spec: authentication.TokenRequestSpec{
		ExpirationSeconds: s.ExpirationSeconds,
		BoundObjectRef:    &authentication.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: p.pod.Name, UID: p.pod.UID},
	}}
	if s.Audience != "" {
		request.Spec.Audiences = []string{s.Audience}
	}
	answer, err := p.worker.api().CoreV1().ServiceAccounts(p.pod.Namespace).CreateToken(ctx, p.pod.Spec.ServiceAccountName, request, meta.CreateOptions{})
	if err != nil {
		return err
	}
	p.add(s.Path, []byte(answer.Status.Token), nil)
	return nil
}

func (p *payload) add(path string, data []byte, mode *int32) {
	f := file{data: data, mode: fs.FileMode(core.ConfigMapVolumeSourceDefaultMode)}
	if mode == nil {
		mode = p.mode
	}
	if mode != nil {
		f.mode = fs.FileMode(*mode)
	}
	p.files[path] = f
}
