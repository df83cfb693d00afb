// Reads poses from streamkp's WebSocket in Unreal Engine 5. Add "WebSockets", "Json" and "JsonUtilities" to the
// PublicDependencyModuleNames of the module's Build.cs, and the component to an actor.
//
//   streamkp run mocap --source 0
#pragma once

#include "CoreMinimal.h"
#include "Components/ActorComponent.h"
#include "IWebSocket.h"
#include "StreamkpComponent.generated.h"

USTRUCT(BlueprintType)
struct FStreamkpPerson
{
    GENERATED_BODY()

    UPROPERTY(BlueprintReadOnly, Category = "streamkp")
    int32 Track = 0;

    /** By Unity's bone names, local to the parent, relative to a T-pose. */
    UPROPERTY(BlueprintReadOnly, Category = "streamkp")
    TMap<FName, FQuat> Bones;

    /** Where the hips are, centimetres, z above the floor. */
    UPROPERTY(BlueprintReadOnly, Category = "streamkp")
    FVector Hips = FVector::ZeroVector;
};

DECLARE_DYNAMIC_MULTICAST_DELEGATE_OneParam(FStreamkpPersonSeen, const FStreamkpPerson&, Person);

UCLASS(ClassGroup = (Custom), meta = (BlueprintSpawnableComponent))
class UStreamkpComponent : public UActorComponent
{
    GENERATED_BODY()

public:
    UPROPERTY(EditAnywhere, BlueprintReadWrite, Category = "streamkp")
    FString Uri = TEXT("ws://127.0.0.1:8765/ws?format=json");

    /** Every person of every frame, in the game thread. */
    UPROPERTY(BlueprintAssignable, Category = "streamkp")
    FStreamkpPersonSeen OnPerson;

protected:
    virtual void BeginPlay() override;
    virtual void EndPlay(const EEndPlayReason::Type Reason) override;

private:
    void Connect();
    void ConnectLater();
    void Read(const FString& Text);

    TSharedPtr<IWebSocket> Socket;
    FTimerHandle Retry;
};
