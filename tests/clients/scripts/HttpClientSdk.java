import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.regex.Pattern;

/** Java's own HTTP client at its defaults, an offer of HTTP/2 included, as Spring AI and LangChain4j use it. */
public class HttpClientSdk {
    private static final HttpClient CLIENT = HttpClient.newHttpClient();

    public static void main(String[] arguments) throws Exception {
        String work = new String(System.in.readAllBytes(), "UTF-8");
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(arguments[0] + "/v1/embeddings"))
            .header("Content-Type", "application/json")
            .header("Authorization", "Bearer " + field(work, "key", "\"([^\"]*)\""));
        String texts = field(work, "texts", "(\\[[^\\]]*\\])");
        String model = field(work, "model", "(\"[^\"]*\")");
        HttpResponse<String> good = send(request, "{\"model\":" + model + ",\"input\":" + texts + "}");
        HttpResponse<String> bad = send(request, "{\"model\":\"no-such-model\",\"input\":\"a\"}");
        System.out.printf("{\"embedded\":%s,\"refused\":%s,\"statuses\":[%d,%d]}%n",
            good.body(), bad.body(), good.statusCode(), bad.statusCode());
    }

    private static HttpResponse<String> send(HttpRequest.Builder request, String body) throws Exception {
        return CLIENT.send(request.POST(BodyPublishers.ofString(body)).build(), BodyHandlers.ofString());
    }

    private static String field(String json, String name, String value) {
        return Pattern.compile("\"" + name + "\": ?" + value).matcher(json).results().findFirst().orElseThrow().group(1);
    }
}
