package setup

import (
	"context"
	"errors"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Request says whose kubeconfig is made, and how.
type Request struct {
	// Kubeconfig and Context are an administrator's; empty: as kubectl finds them.
	Kubeconfig, Context string
	// Server is the URL in the result; empty: the administrator's.
	Server string
	// Namespace and Account are the service account's.
	Namespace, Account string
	// Lifetime of the token. 0: that of Secret, a token without end.
	Lifetime time.Duration
	// Secret is the Secret with the account's token.
	Secret string
}

// ErrLifetime says that the API server has given a token of another lifetime.
var ErrLifetime = errors.New("the API server gives no token for so long")

// Kubeconfig makes the kubeconfig of a service account, by which nodes outside of the
// cluster reach it.
func Kubeconfig(ctx context.Context, r Request) ([]byte, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = r.Kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: r.Context})
	cfg, err := loader.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig of an administrator: %w", err)
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig of an administrator: %w", err)
	}
	token, authority, err := r.credentials(ctx, client)
	if err != nil {
		return nil, err
	}
	if len(authority) == 0 {
		authority = cfg.CAData
	}
	server := r.Server
	if server == "" {
		server = cfg.Host
	}
	const name = "fairlead"
	out := clientcmdapi.NewConfig()
	out.Clusters[name] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: authority}
	out.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token}
	out.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name, Namespace: r.Namespace}
	out.CurrentContext = name
	data, err := clientcmd.Write(*out)
	if err != nil {
		return nil, fmt.Errorf("write a kubeconfig: %w", err)
	}
	return data, nil
}

// credentials are a token and, where the Secret has it, the cluster's authority.
func (r *Request) credentials(ctx context.Context, client kubernetes.Interface) (token string, authority []byte, err error) {
	if r.Lifetime > 0 {
		seconds := int64(r.Lifetime / time.Second)
		answer, err := client.CoreV1().ServiceAccounts(r.Namespace).CreateToken(ctx, r.Account,
			&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
		if err != nil {
			return "", nil, fmt.Errorf("token of service account %s/%s: %w", r.Namespace, r.Account, err)
		}
		if got := time.Until(answer.Status.ExpirationTimestamp.Time); got < r.Lifetime-time.Minute {
			return "", nil, fmt.Errorf("token of service account %s/%s for %s: %w: it would be for %s", r.Namespace, r.Account, r.Lifetime, ErrLifetime, got.Round(time.Minute))
		}
		config, err := client.CoreV1().ConfigMaps(r.Namespace).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
		if err == nil {
			authority = []byte(config.Data["ca.crt"])
		}
		return answer.Status.Token, authority, nil
	}
	secret, err := client.CoreV1().Secrets(r.Namespace).Get(ctx, r.Secret, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return "", nil, fmt.Errorf("there is no Secret %s/%s: apply what `fairlead k8s manifests --outside` prints, or ask for a token that ends", r.Namespace, r.Secret)
	case err != nil:
		return "", nil, fmt.Errorf("token of service account %s/%s: %w", r.Namespace, r.Account, err)
	case secret.Type != corev1.SecretTypeServiceAccountToken || secret.Annotations[corev1.ServiceAccountNameKey] != r.Account:
		return "", nil, fmt.Errorf("the Secret %s/%s is not one with the token of service account %s", r.Namespace, r.Secret, r.Account)
	case len(secret.Data[corev1.ServiceAccountTokenKey]) == 0:
		return "", nil, fmt.Errorf("the Secret %s/%s has no token yet; the controller manager makes it", r.Namespace, r.Secret)
	}
	return string(secret.Data[corev1.ServiceAccountTokenKey]), secret.Data[corev1.ServiceAccountRootCAKey], nil
}
