package bugreport

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"fairlead/controlplane/api"
)

// askWithin is how long one question to the node may take.
const askWithin = 30 * time.Second

// leftOut are endpoints that a report does not ask: what changes with every
// packet or is another's data.
var leftOut = []string{"/v1/config/diff"}

// document is what a report needs of the node's OpenAPI document.
type document struct {
	Paths map[string]map[string]struct {
		Parameters []struct {
			Name     string `json:"name"`
			Required bool   `json:"required"`
		} `json:"parameters"`
		Responses map[string]struct {
			Content map[string]any `json:"content"`
		} `json:"responses"`
	} `json:"paths"`
}

// Node adds what a node tells of itself: the answer of every endpoint that can
// be asked without knowing what for, by its own document. Streams are left out:
// flows and captures are of clients.
func (r *Report) Node(ctx context.Context, client *api.Client) error {
	var doc document
	if err := client.Call(ctx, http.MethodGet, "/v1/openapi.json", nil, nil, &doc); err != nil {
		return r.Add("node/openapi.json", nil, err)
	}
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		get, has := doc.Paths[path]["get"]
		if !has || slices.Contains(leftOut, path) {
			continue
		}
		query := make(url.Values)
		asked := true
		for _, p := range get.Parameters {
			asked = asked && !p.Required
			if p.Name == "limit" {
				query.Set("limit", "1000")
			}
		}
		content := get.Responses["200"].Content
		_, isJSON := content["application/json"]
		isText := slices.ContainsFunc(slices.Collect(maps.Keys(content)), func(t string) bool { return strings.HasPrefix(t, "text/plain") })
		if !asked || !isJSON && !isText {
			continue
		}
		ending := ".json"
		if isText {
			ending = ".txt"
		}
		text, err := fetch(ctx, client, path, query)
		name := "node/" + strings.ReplaceAll(strings.TrimPrefix(strings.TrimPrefix(path, "/"), "v1/"), "/", "-")
		if err := r.Add(strings.TrimSuffix(name, ".json")+ending, text, err); err != nil {
			return err
		}
	}
	return nil
}

// fetch asks for one answer, and takes no more of it than a report has room for.
func fetch(ctx context.Context, client *api.Client, path string, query url.Values) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	body, err := client.Open(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, 4*MaxItem))
	if err != nil {
		return text, fmt.Errorf("not complete: %w", err)
	}
	var page struct {
		Next string `json:"next"`
	}
	if json.Unmarshal(text, &page) == nil && page.Next != "" {
		err = fmt.Errorf("the first page alone")
	}
	return text, err
}
