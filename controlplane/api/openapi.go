package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// Document is the OpenAPI document of all endpoints, made from what they were
// registered with.
func (r *Router) Document(version string) ([]byte, error) {
	s := &schemas{components: make(openapi3.Schemas), types: make(map[string]reflect.Type)}
	doc := &openapi3.T{
		OpenAPI: "3.0.3",
		Info: &openapi3.Info{Title: "Fairlead", Version: version, Description: "The admin API of a Fairlead node. " +
			"It is served on a Unix socket, where a caller's role follows from the process that connects, " +
			"and on TCP with mutual TLS alone, where it follows from the certificate."},
		Servers: openapi3.Servers{{URL: "/"}},
		Paths:   openapi3.NewPaths(),
	}
	failure := s.of(reflect.TypeFor[errorBody](), "", false)
	for _, t := range r.routes {
		item := doc.Paths.Value(t.Path)
		if item == nil {
			item = &openapi3.PathItem{}
			doc.Paths.Set(t.Path, item)
		}
		item.SetOperation(t.Method, t.operation(s, failure))
		if !slices.ContainsFunc(doc.Tags, func(tag *openapi3.Tag) bool { return tag.Name == t.Tag }) {
			doc.Tags = append(doc.Tags, &openapi3.Tag{Name: t.Tag})
		}
	}
	doc.Components = &openapi3.Components{Schemas: s.components}
	return json.Marshal(doc)
}

// operation describes one endpoint.
func (t *route) operation(s *schemas, failure *openapi3.SchemaRef) *openapi3.Operation {
	op := &openapi3.Operation{Tags: []string{t.Tag}, Summary: t.Summary, Description: t.description(), OperationID: t.operationID()}
	op.Extensions = map[string]any{"x-role": t.Role.String()}
	for _, p := range t.params {
		op.Parameters = append(op.Parameters, &openapi3.ParameterRef{Value: p.describe(s)})
	}
	if t.body != nil {
		media := openapi3.NewMediaType()
		if t.body.content == typeJSON {
			media.Schema = s.of(t.body.of, t.body.tag, true)
		} else {
			media.Schema = openapi3.NewSchemaRef("", openapi3.NewStringSchema())
		}
		for _, e := range t.Examples {
			if e.Body != "" && media.Example == nil {
				media.Example = exampleOf(t.body.content, e.Body)
			}
		}
		body := openapi3.NewRequestBody().WithRequired(true).WithContent(openapi3.Content{t.body.content: media})
		body.Description = t.body.tag.Get("doc")
		op.RequestBody = &openapi3.RequestBodyRef{Value: body}
	}
	op.Responses = openapi3.NewResponsesWithCapacity(2)
	status, good := t.success(s)
	op.Responses.Set(strconv.Itoa(status), &openapi3.ResponseRef{Value: good})
	bad := openapi3.NewResponse().WithDescription("What is wrong").WithContent(openapi3.NewContentWithJSONSchemaRef(failure))
	op.Responses.Set("default", &openapi3.ResponseRef{Value: bad})
	return op
}

func (t *route) success(s *schemas) (status int, _ *openapi3.Response) {
	r := openapi3.NewResponse()
	if t.content == "" {
		return http.StatusNoContent, r.WithDescription("Done")
	}
	media := openapi3.NewMediaType()
	said := "The answer"
	switch {
	case t.content == typeNDJSON:
		said = "Any number of these, each in a line of its own; the last line is an error when there was one"
		fallthrough
	case t.out != nil:
		media.Schema = s.of(t.out, "", false)
	default:
		media.Schema = openapi3.NewSchemaRef("", openapi3.NewStringSchema().WithFormat("binary"))
	}
	return http.StatusOK, r.WithDescription(said).WithContent(openapi3.Content{t.content: media})
}

func (t *route) description() string {
	return strings.TrimSpace(fmt.Sprintf("%s\n\nNeeds the role %s.", t.Description, t.Role))
}

// operationID is getServicesName for GET /v1/services/{name}.
func (t *route) operationID() string {
	id := strings.ToLower(t.Method)
	for part := range strings.FieldsFuncSeq(strings.TrimPrefix(t.Path, "/v1/"), func(r rune) bool { return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9') }) {
		id += strings.ToUpper(part[:1]) + part[1:]
	}
	return id
}

func (p *param) describe(s *schemas) *openapi3.Parameter {
	schema := s.of(p.of, p.tag, true)
	if p.many {
		array := openapi3.NewArraySchema()
		array.Items = schema
		schema = openapi3.NewSchemaRef("", array)
	}
	return &openapi3.Parameter{
		Name: p.name, In: p.in, Description: p.tag.Get("doc"), Schema: schema,
		Required: p.in == inPath || p.tag.Get("required") == "true",
	}
}

// exampleOf is an example body as the document shows it.
func exampleOf(content, text string) any {
	var value any
	if content == typeJSON && json.Unmarshal([]byte(text), &value) == nil {
		return value
	}
	return text
}
